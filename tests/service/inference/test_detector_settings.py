"""A model.yaml at work: what it changes of a loaded model, and what of it does not fit one."""

from pathlib import Path
from typing import Any

import pytest
from small_models import write_small_model

from models import load_config
from models.errors import ModelError
from service.inference.loading import load_torch_detector
from service.inference.torch_detector import TorchDetector
from service.repository.model_settings import Batching, ClassEntry, ModelSettings
from service.repository.source import ModelSource
from service.runtime import Runtime
from service.settings import PRETRAINED, Settings

SHAPES = ("disc", "rectangle", "triangle", "star")
FILES = {"config": PRETRAINED / "config.yaml", "weights": PRETRAINED / "model_final.pth"}


def load(settings: ModelSettings | None = None, **options: Any) -> TorchDetector:
    options = {"labels": None, "device": "cpu", "mode": "reference"} | options
    return load_torch_detector(**FILES, settings=settings, **options)


def named(*names: str, **colors: str) -> tuple[ClassEntry, ...]:
    return tuple(ClassEntry.model_validate({"name": name, **colors}) for name in names)


def test_settings_give_names_colors_defaults_and_bounds() -> None:
    settings = ModelSettings(
        score_threshold=0.5,
        max_detections=7,
        classes=(*named("a", color="#ff8800"), *named("b", "c", "d")),
        batching=Batching(max_batch_size=3, max_wait_ms=4),
        description="finds shapes",
    )
    model = load(settings).description
    assert (model.class_names, model.class_names_source) == (("a", "b", "c", "d"), "model.yaml")
    assert model.class_colors == ((255, 136, 0), None, None, None)
    assert (model.default_score, model.default_most) == (0.5, 7)
    assert (model.score_threshold, model.max_detections) == (0.05, 100)
    assert model.batching == settings.batching
    assert model.about == "finds shapes"


def test_settings_names_come_before_a_labels_file(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("1\n2\n3\n4\n")
    settings = ModelSettings(classes=named("a", "b", "c", "d"))
    assert load(settings, labels=labels).description.class_names == ("a", "b", "c", "d")
    assert load(ModelSettings(), labels=labels).description.class_names == ("1", "2", "3", "4")


def test_the_data_sets_ids_are_those_of_its_own_classes_alone(tmp_path: Path) -> None:
    config, weights = write_small_model("keypoints", tmp_path)
    files: dict[str, Any] = {"config": config, "weights": weights, "labels": None, "device": "cpu"}
    known = load_torch_detector(**files, mode="reference").description
    assert (known.class_names, known.category_ids) == (("person",), (1,))
    settings = ModelSettings(classes=named("worker"))
    renamed = load_torch_detector(**files, mode="reference", settings=settings).description
    assert (renamed.class_names, renamed.category_ids) == (("worker",), ())
    assert load().description.category_ids == ()


def test_without_settings_the_models_own_apply() -> None:
    model = load().description
    assert model.class_names == SHAPES
    assert (model.default_score, model.default_most) == (0.05, 100)
    assert (model.default_score_threshold, model.default_max_detections) == (None, None)
    assert model.batching == Batching()


def test_mode_and_resize_of_the_settings_come_before_the_servers() -> None:
    settings = ModelSettings(mode="reference", resize="pil")
    execution = load(settings, mode="exact", resize="fast").description.execution
    assert (execution["requested"], execution["resize"]) == ("reference", "pil")
    execution = load(ModelSettings(), mode="reference").description.execution
    assert execution["requested"] == "reference"


@pytest.mark.parametrize(
    ("settings", "part", "details"),
    [
        (
            ModelSettings(score_threshold=0.01),
            "score_threshold 0.01 is below the model's own, 0.05",
            {"value": 0.01, "minimum": 0.05},
        ),
        (
            ModelSettings(max_detections=101),
            "max_detections 101 is above the model's own, 100",
            {"value": 101, "maximum": 100},
        ),
        (
            ModelSettings(classes=named("a", "b")),
            "has 2 names, but the model has 4 classes",
            {"names": 2, "classes": 4},
        ),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(
    settings: ModelSettings, part: str, details: dict[str, Any]
) -> None:
    with pytest.raises(ModelError) as caught:
        load(settings)
    assert "model.yaml" in caught.value.message
    assert part in caught.value.message
    assert caught.value.details == details


def test_defaults_are_part_of_the_recipe() -> None:
    # A request that names none means something else to them, and is prepared anew.
    own = load().recipe
    for settings in (ModelSettings(score_threshold=0.5), ModelSettings(max_detections=7)):
        assert load(settings).recipe != own
    same = ModelSettings(score_threshold=0.05, max_detections=100)
    assert load(same).recipe == own


def test_a_semantic_model_takes_its_names_and_colors_from_the_settings(tmp_path: Path) -> None:
    config, weights = write_small_model("semantic", tmp_path)
    assert config is not None
    count = load_config(config).MODEL.SEM_SEG_HEAD.NUM_CLASSES
    classes = named(*(f"s{i}" for i in range(count)), color="#010203")
    detector = load_torch_detector(
        config=config,
        weights=weights,
        labels=None,
        device="cpu",
        settings=ModelSettings(classes=classes),
    )
    model = detector.description
    assert model.stuff_class_names == model.class_names == tuple(f"s{i}" for i in range(count))
    assert model.stuff_class_colors == ((1, 2, 3),) * count


def test_a_server_passes_them_on_with_the_source() -> None:
    settings = ModelSettings(score_threshold=0.5, mode="reference")
    runtime = Runtime(Settings(device="cpu", mode="exact"))
    try:
        model = runtime._load(ModelSource(**FILES, settings=settings)).description
    finally:
        runtime.close()
    assert model.default_score == 0.5
    assert model.execution["requested"] == "reference"
