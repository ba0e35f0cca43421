"""Instances to JSON: the request's filters, classes by name or id, and masks as RLE."""

from typing import Any

import numpy as np
import orjson
import pytest
import torch
from fake_detector import FakeDetector
from pycocotools import mask as coco

from models.layers.mask_ops import paste_masks_in_image
from models.structures import Boxes, Instances
from service.encoding.instances import Selection, encode_instances, select
from service.errors import Unprocessable
from service.inference.detector import ModelDescription
from service.schemas.options import PredictOptions

NAMES = ("disc", "square", "star, red", "1")


def description(**changes: Any) -> ModelDescription:
    return FakeDetector(class_names=NAMES, **changes).description


def resolve(model: ModelDescription | None = None, **options: Any) -> Selection:
    return Selection.resolve(PredictOptions.parse(options), model or description())


def refusal(model: ModelDescription | None = None, **options: Any) -> Unprocessable:
    with pytest.raises(Unprocessable) as caught:
        resolve(model, **options)
    return caught.value


def found(number: int = 40, size: tuple[int, int] = (48, 64)) -> Instances:
    """Random instances, best first, with boxes of all kinds, some at the rim."""
    random = torch.Generator().manual_seed(0)
    height, width = size
    corners = torch.rand(number, 2, 2, generator=random) * torch.tensor([width, height])
    corners = corners.sort(dim=1).values
    corners[::3] = corners[::3].round()
    boxes = corners.flatten(1)
    boxes[0] = torch.tensor([0.0, 0.0, width, height])
    boxes[1] = torch.tensor([width - 0.5, height - 0.5, width, height])
    instances = Instances(size)
    instances.pred_boxes = Boxes(boxes)
    instances.scores = torch.linspace(0.99, 0.06, number)
    instances.pred_classes = torch.randint(0, len(NAMES), (number,), generator=random)
    instances.pred_masks = torch.rand(number, 1, 28, 28, generator=random)
    return instances


def as_json(instances: Instances, selection: Selection, **changes: Any) -> dict[str, Any]:
    """What a client sees."""
    encoded = encode_instances(select(instances, selection), selection, description(**changes))
    answer: dict[str, Any] = orjson.loads(orjson.dumps(encoded, option=orjson.OPT_SERIALIZE_NUMPY))
    return answer


# --- options for a model --------------------------------------------------------------------------


def test_without_options_the_models_own_apply() -> None:
    selection = resolve()
    assert selection == Selection(0.05, 100, None, masks=True)


def test_a_threshold_below_the_models_own_is_refused_with_the_reason() -> None:
    error = refusal(score_threshold=0.04)
    assert error.code == "score_threshold_too_low"
    assert error.details == {"value": 0.04, "minimum": 0.05}
    assert "SCORE_THRESH_TEST" in error.message


def test_a_threshold_at_the_models_own_is_taken() -> None:
    assert resolve(score_threshold=0.05).score_threshold == 0.05


def test_a_cap_above_the_models_own_is_refused_with_the_reason() -> None:
    error = refusal(max_detections=101)
    assert error.code == "max_detections_too_high"
    assert "DETECTIONS_PER_IMAGE" in error.message


def test_a_model_without_a_cap_takes_any() -> None:
    model = description(max_detections=-1)
    assert resolve(model, max_detections=10**6).max_detections == 10**6
    assert len(select(found(), resolve(model))) == 40


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ("disc", {0}),
        ("0", {0}),
        (0, {0}),
        ("disc,square", {0, 1}),
        (" disc , 2 ", {0, 2}),
        ("star, red", {2}),
        (["star, red", "disc"], {0, 2}),
        (["disc,square", "2"], {0, 1, 2}),
        ("1", {3}),  # a name before an id
        (["disc", "disc", 0], {0}),
        ([], set()),
    ],
)
def test_classes_are_names_or_ids_and_a_name_may_hold_a_comma(given: Any, ids: set[int]) -> None:
    assert resolve(classes=given).class_ids == ids


@pytest.mark.parametrize("given", ["car", "4", "-1", "Disc", "disc,", "", "\u0663", "9" * 5000])
def test_an_unknown_class_is_refused_with_those_that_there_are(given: str) -> None:
    error = refusal(classes=[given[:1000]])
    assert error.code == "unknown_class"
    assert "disc, square, star, red, 1 (ids 0 to 3)" in error.message
    assert len(error.message) < 400


def test_of_many_classes_only_some_are_listed() -> None:
    model = FakeDetector(class_names=tuple(f"c{i}" for i in range(1203))).description
    message = refusal(model, classes="car").message
    assert "c19, ..." in message
    assert "c20" not in message
    assert "1203 classes" in message


# --- filters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [None, 0.05, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("classes", [None, [], ["disc"], ["disc", 2]])
@pytest.mark.parametrize("cap", [None, 1, 7, 100])
def test_filtering_equals_filtering_the_full_answer(
    threshold: float | None, classes: list[Any] | None, cap: int | None
) -> None:
    instances = found()
    full = as_json(instances, resolve())
    wanted = {0 if name == "disc" else name for name in classes} if classes is not None else None
    keep = [
        i
        for i, (score, kind) in enumerate(zip(full["scores"], full["pred_classes"], strict=True))
        if (threshold is None or score >= threshold) and (wanted is None or kind in wanted)
    ][:cap]
    options = {"score_threshold": threshold, "classes": classes, "max_detections": cap}
    answer = as_json(
        instances, resolve(**{name: value for name, value in options.items() if value is not None})
    )
    assert answer == {name: [values[i] for i in keep] for name, values in full.items()}


def test_an_image_without_instances_has_empty_lists() -> None:
    assert as_json(found()[:0], resolve()) == {
        "pred_boxes": [], "pred_classes": [], "class_names": [], "scores": [], "masks": [],
    }  # fmt: skip


def test_names_stand_beside_the_ids() -> None:
    answer = as_json(found(), resolve())
    assert answer["class_names"] == [NAMES[i] for i in answer["pred_classes"]]


# --- masks ----------------------------------------------------------------------------------------


def test_masks_are_what_pycocotools_makes_of_full_frames() -> None:
    instances = found()
    frames = paste_masks_in_image(
        instances.pred_masks[:, 0], instances.pred_boxes.tensor, instances.image_size
    )
    expected = [coco.encode(np.asfortranarray(frame.numpy().astype(np.uint8))) for frame in frames]
    answer = as_json(instances, resolve())
    assert [(mask["size"], mask["counts"]) for mask in answer["masks"]] == [
        (mask["size"], mask["counts"].decode()) for mask in expected
    ]
    assert any(frame.any() for frame in frames)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_empty_and_a_full_mask_are_encoded(value: float) -> None:
    instances = found(2, size=(5, 7))[:1]
    instances.pred_masks = torch.full((1, 1, 28, 28), value)
    [mask] = as_json(instances, resolve())["masks"]
    decoded = coco.decode({"size": mask["size"], "counts": mask["counts"].encode()})
    assert decoded.shape == (5, 7)
    assert decoded.sum() == value * 35


def test_masks_none_leaves_them_out() -> None:
    assert "masks" not in as_json(found(), resolve(masks="none"))


def test_a_model_without_masks_answers_none() -> None:
    instances = found()
    instances.remove("pred_masks")
    model = description(task="object_detection")
    selection = resolve(model)
    assert not selection.masks
    assert "masks" not in as_json(instances, selection, task="object_detection")
