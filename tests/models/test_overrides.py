"""Another NMS threshold and cap for one image: as of a model whose config has them, for that image alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from small_models import MODELS, save_seeded, write_small_model

from models import Boxes, Instances, Predictor, build_model, load_config
from models.architectures.torchvision_adapter import torchvision_config
from models.config.lazy_tags import LAZY_KEY
from models.facts import facts_of
from models.heads import StandardROIHeads
from models.heads.fast_rcnn import FastRCNNOutputLayers
from models.test_time_augmentation import with_tta
from models.tta_views import DatasetMapperTTA
from models.wanted import EVERYTHING, Wanted

LOW, HIGH, MORE = 0.1, 0.95, 150
"""NMS thresholds on both sides of every model's own, and a cap above it."""

VARIANTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "agnostic": ("mask_rcnn", ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True)),
    "sigmoid": ("mask_rcnn", ("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", True)),
}
FINDERS = [name for name, small in MODELS.items() if "instances" in small.outputs]


class Twin:
    """One model, and what it would be with other values in its config."""

    def __init__(self, name: str, folder: Path) -> None:
        small, changes = VARIANTS.get(name, (name, ()))
        self.folder = folder
        self.config, self.weights = write_small_model(small, folder)
        if changes and self.config is not None:
            cfg = load_config(self.config, list(changes))
            self.config.write_text(cfg.dump())
            save_seeded(build_model(cfg), self.weights)
        if small == "fcos":  # its boxes are too small to overlap
            saved = torch.load(self.weights, weights_only=True)
            saved["model"]["head.bbox_pred.bias"] += 4
            torch.save(saved, self.weights)
        self.predictor = self.configured()
        self.facts = facts_of(self.predictor.model, self.predictor.cfg)

    def configured(self, nms_threshold: float | None = None, cap: int = 0) -> Predictor:
        """The same weights under a config with these values; with its own without."""
        if nms_threshold is None and self.config is not None:
            return Predictor.from_files(self.config, self.weights)
        changes: list[Any] = ["TEST.DETECTIONS_PER_IMAGE", cap]
        for key in ("ROI_HEADS", "RETINANET"):
            changes += [f"MODEL.{key}.NMS_THRESH_TEST", nms_threshold]
        if self.config is None:
            cfg = torchvision_config(self.weights)
            # As small as its images.
            cfg = cfg.override("INPUT.MIN_SIZE_TEST", 128).override("INPUT.MAX_SIZE_TEST", 160)
            if nms_threshold is not None:
                cfg = cfg.override("TEST.DETECTIONS_PER_IMAGE", cap)
                cfg = cfg.override("MODEL.ROI_HEADS.NMS_THRESH_TEST", nms_threshold)
            return Predictor.from_config(cfg, self.weights)
        if LAZY_KEY not in self.predictor.cfg:
            return Predictor.from_files(self.config, self.weights, overrides=changes)
        values = {
            "test_nms_thresh": nms_threshold,
            "max_detections_per_image": cap,
            "test_topk_per_image": cap,
        }
        raw = yaml.safe_load(self.config.read_text())
        model = raw["model"]
        owner = model if "test_nms_thresh" in model else model.get("roi_heads", model)
        owner = owner.get("box_predictor", owner)
        own_cap = "test_topk_per_image" if owner is not model else "max_detections_per_image"
        owner |= {key: values[key] for key in ("test_nms_thresh", own_cap)}
        changed = self.folder / "changed.yaml"
        changed.write_text(yaml.safe_dump(raw))
        return Predictor.from_files(changed, self.weights)


@pytest.fixture(scope="module", params=[*FINDERS, *VARIANTS])
def twin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twin:
    return Twin(request.param, tmp_path_factory.mktemp("model"))


def inputs(predictor: Predictor, number: int = 3) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(5)
    size = (96, 128)
    images = []
    for _ in range(number):
        image = torch.randint(0, 256, (3, *size), generator=generator).to(torch.uint8)
        images.append({"image": image, "height": 60, "width": 90})
        if predictor.cfg.MODEL.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals":
            corners = torch.rand(40, 2, generator=generator) * torch.tensor([64.0, 48.0])
            sides = 24 + torch.rand(40, 2, generator=generator) * 20
            images[-1]["proposals"] = Instances(
                size,
                proposal_boxes=Boxes(torch.cat([corners, corners + sides], dim=1)),
                objectness_logits=torch.zeros(40),
            )
    return images


def run(model: Any, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with torch.inference_mode():
        outputs: list[dict[str, Any]] = model.predict(images)
    return outputs


def wanting(images: list[dict[str, Any]], *wanted: Wanted | None) -> list[dict[str, Any]]:
    return [
        image if one is None else {**image, "wanted": one}
        for image, one in zip(images, wanted, strict=True)
    ]


def assert_equal(ours: dict[str, Any], expected: dict[str, Any], *, exact: bool = True) -> None:
    """To the last bit; unless ``exact``, masks and keypoints nearly so: their heads run on the regions of
    all images together, and a CPU sums up another number of rows in another order."""
    found, other = ours["instances"].get_fields(), expected["instances"].get_fields()
    assert found.keys() == other.keys()
    for name, field in found.items():
        if name in ("pred_masks", "pred_keypoints") and not exact:
            torch.testing.assert_close(field, other[name], rtol=1e-4, atol=1e-4)
            continue
        assert torch.equal(
            getattr(field, "tensor", field), getattr(other[name], "tensor", other[name])
        )
    if "panoptic_seg" in ours and exact:
        assert torch.equal(ours["panoptic_seg"][0], expected["panoptic_seg"][0])
        assert ours["panoptic_seg"][1] == expected["panoptic_seg"][1]


def test_every_small_model_takes_overrides_and_says_so(twin: Twin) -> None:
    assert twin.facts.takes_overrides


def test_the_models_own_values_change_nothing(twin: Twin) -> None:
    images = inputs(twin.predictor)
    own = Wanted(
        nms_threshold=twin.facts.nms_threshold, detections_per_image=twin.facts.max_detections
    )
    plain = run(twin.predictor.model, images)
    for ours, expected in zip(
        run(twin.predictor.model, wanting(images, own, own, own)), plain, strict=True
    ):
        assert len(ours["instances"]) > 2
        assert_equal(ours, expected)


def test_an_override_is_what_the_config_would_have_done(twin: Twin) -> None:
    images = inputs(twin.predictor)
    answers = set()
    for nms_threshold, cap in [(LOW, MORE), (HIGH, MORE), (HIGH, 2)]:
        wanted = Wanted(nms_threshold=nms_threshold, detections_per_image=cap)
        ours = run(twin.predictor.model, wanting(images, wanted, wanted, wanted))
        configured = twin.configured(nms_threshold, cap)
        assert facts_of(configured.model, configured.cfg).nms_threshold == nms_threshold
        for one, expected in zip(ours, run(configured.model, images), strict=True):
            assert_equal(one, expected)
        answers.add(tuple(score for one in ours for score in one["instances"].scores.tolist()))
    assert len(answers) == 3  # each of them made a difference


def test_the_others_of_a_batch_are_not_touched(twin: Twin) -> None:
    images = inputs(twin.predictor)
    model = twin.predictor.model
    first, last = Wanted(nms_threshold=LOW), Wanted(nms_threshold=HIGH, detections_per_image=MORE)
    mixed = run(model, wanting(images, first, None, last))
    plain = run(model, images)
    assert_equal(mixed[0], run(model, wanting(images, first, first, first))[0], exact=False)
    assert_equal(mixed[1], plain[1], exact=False)
    assert_equal(mixed[2], run(model, wanting(images, last, last, last))[2], exact=False)


@pytest.mark.parametrize("name", ["mask_rcnn", "cascade", "agnostic", "retinanet", "fcos"])
def test_all_images_at_once_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: each image under its own settings, as in a batch of a model that has them."""
    for module in ("models.heads.detections", "models.architectures.dense_detector"):
        monkeypatch.setattr(f"{module}.pays_together", lambda device: True)
    twin = Twin(name, tmp_path)
    images = inputs(twin.predictor)
    low, high = Wanted(nms_threshold=LOW), Wanted(nms_threshold=HIGH, detections_per_image=MORE)
    mixed = run(twin.predictor.model, wanting(images, low, None, high))
    expected = [
        run(twin.configured(LOW, twin.facts.max_detections).model, images)[0],
        run(twin.predictor.model, images)[1],
        run(twin.configured(HIGH, MORE).model, images)[2],
    ]
    for ours, other in zip(mixed, expected, strict=True):
        assert_equal(ours, other, exact=False)


@pytest.mark.parametrize("name", ["mask_rcnn", "cascade", "keypoints", "retinanet", "fcos"])
def test_with_test_time_augmentation_too(name: str, tmp_path: Path) -> None:
    twin = Twin(name, tmp_path)

    def augmented(predictor: Predictor) -> Any:
        mapper = DatasetMapperTTA([64, 96], 160, True)
        return with_tta(predictor.cfg, predictor.model, mapper)

    images = inputs(twin.predictor, 1)
    wanted = Wanted(nms_threshold=HIGH, detections_per_image=MORE)
    ours = run(augmented(twin.predictor), wanting(images, wanted))[0]
    assert_equal(ours, run(augmented(twin.configured(HIGH, MORE)), images)[0])
    own = run(augmented(twin.predictor), images)[0]
    assert len(ours["instances"]) > len(own["instances"])


def test_filters_act_behind_the_overrides(twin: Twin) -> None:
    images = inputs(twin.predictor, 1)
    model = twin.predictor.model
    everything = Wanted(nms_threshold=HIGH, detections_per_image=MORE)
    full = run(model, wanting(images, everything))[0]["instances"]
    middle = float(full.scores[len(full) // 2])
    wanted = replace(everything, score_threshold=middle, max_detections=3)
    chosen = run(model, wanting(images, wanted))[0]["instances"]
    chosen = chosen[wanted.index(chosen)]
    expected = full[wanted.index(full)]
    assert chosen.scores.tolist() == expected.scores.tolist()
    assert torch.equal(chosen.pred_boxes.tensor, expected.pred_boxes.tensor)


class OwnPredictor(FastRCNNOutputLayers):
    """Somebody's own, as the modeling API has it: without overrides."""

    def inference(self, predictions: Any, proposals: Any) -> Any:  # type: ignore[override]  # see above
        return super().inference(predictions, proposals)


class OwnHeads(StandardROIHeads):
    """Heads whose whole forward is somebody's own."""

    def forward(self, images: Any, features: Any, proposals: Any, targets: Any = None) -> Any:  # type: ignore[override]  # see above
        return super().forward(images, features, proposals, targets)


@pytest.mark.parametrize("part", ["predictor", "heads"])
def test_parts_of_somebodys_own_work_without_overrides_and_refuse_them(
    part: str, tmp_path: Path
) -> None:
    predictor = Twin("mask_rcnn", tmp_path).predictor
    expected = run(predictor.model, inputs(predictor, 1))[0]
    heads: Any = predictor.model.roi_heads
    if part == "predictor":
        heads.box_predictor.__class__ = OwnPredictor
    else:
        heads.__class__ = OwnHeads
    assert not facts_of(predictor.model, predictor.cfg).takes_overrides
    images = inputs(predictor, 1)
    assert_equal(run(predictor.model, images)[0], expected)
    with pytest.raises(ValueError, match="takes neither nms_threshold nor detections_per_image"):
        run(predictor.model, wanting(images, Wanted(nms_threshold=LOW)))


@pytest.mark.parametrize("name", ["proposal_network", "semantic"])
def test_a_model_without_instances_takes_none(name: str, tmp_path: Path) -> None:
    assert not Twin(name, tmp_path).facts.takes_overrides


# --- thresholds by class: a choice among the answer -----------------------------------------------


def found(scores: list[float], classes: list[int]) -> Instances:
    return Instances(
        (10, 10), scores=torch.tensor(scores), pred_classes=torch.tensor(classes, dtype=torch.int64)
    )


def test_a_class_has_its_own_threshold_and_the_others_the_common_one() -> None:
    instances = found([0.9, 0.8, 0.7, 0.6, 0.5], [0, 1, 2, 0, 1])
    wanted = Wanted(score_threshold=0.7, class_thresholds=((0, 0.95), (1, 0.5)))
    assert wanted.index(instances).tolist() == [1, 2, 4]
    assert replace(wanted, max_detections=2).index(instances).tolist() == [1, 2]
    assert replace(wanted, class_ids=frozenset({1})).index(instances).tolist() == [1, 4]


@drawn(
    scores=st.lists(st.floats(0, 1, width=32), max_size=30),
    thresholds=st.dictionaries(st.integers(0, 6), st.floats(0, 1), max_size=4),
    common=st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_each_instance_is_held_to_the_threshold_of_its_class(
    scores: list[float], thresholds: dict[int, float], common: float
) -> None:
    classes = [i % 5 for i in range(len(scores))]
    instances = found(scores, classes)
    wanted = Wanted(score_threshold=common, class_thresholds=tuple(thresholds.items()))
    expected = [
        i
        for i in range(len(scores))
        if bool(instances.scores[i] >= thresholds.get(classes[i], common))
    ]
    assert wanted.index(instances).tolist() == expected


def test_the_overrides_alone_leave_nothing_out() -> None:
    wanted = Wanted(score_threshold=0.5, max_detections=3, nms_threshold=LOW)
    assert wanted.overrides_alone == Wanted(nms_threshold=LOW)
    assert not EVERYTHING.overrides
    assert Wanted(detections_per_image=5).overrides
