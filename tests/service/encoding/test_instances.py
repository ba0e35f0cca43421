"""Instances to JSON: the request's filters, classes by name or id, and masks as RLE."""

from typing import Any

import numpy as np
import orjson
import pytest
import torch
from fake_detector import FakeDetector
from pycocotools import mask as coco

from models.layers.mask_ops import paste_masks_in_image
from models.structures import Boxes, Instances, RotatedBoxes
from models.wanted import Wanted
from service.encoding.instances import (
    Selection,
    encode_instances,
    encode_prediction,
    select,
)
from service.errors import Unprocessable
from service.inference.detector import ModelDescription, Prediction, Views
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
    wanted = Wanted(score_threshold=0.05, max_detections=100)
    assert selection == Selection(wanted, masks=True, segmentation="png", tta=None)


def test_without_options_the_owners_defaults_come_before_the_models_own() -> None:
    model = description(default_score_threshold=0.5, default_max_detections=7)
    assert resolve(model).wanted == Wanted(score_threshold=0.5, max_detections=7)


def test_a_request_may_go_past_the_owners_defaults_to_the_models_own_and_no_further() -> None:
    model = description(default_score_threshold=0.5, default_max_detections=7)
    wanted = resolve(model, score_threshold=0.05, max_detections=100).wanted
    assert wanted == Wanted(score_threshold=0.05, max_detections=100)
    assert refusal(model, score_threshold=0.04).code == "score_threshold_too_low"
    assert refusal(model, max_detections=101).code == "max_detections_too_high"


def test_an_owners_default_of_nothing_is_one() -> None:
    model = description(score_threshold=0.0, default_score_threshold=0.0)
    assert resolve(model).wanted.score_threshold == 0.0


def test_a_threshold_below_the_models_own_is_refused_with_the_reason() -> None:
    error = refusal(score_threshold=0.04)
    assert error.code == "score_threshold_too_low"
    assert error.details == {"value": 0.04, "minimum": 0.05}
    assert "SCORE_THRESH_TEST" in error.message


def test_a_threshold_at_the_models_own_is_taken() -> None:
    assert resolve(score_threshold=0.05).wanted.score_threshold == 0.05


def test_a_cap_above_the_models_own_is_refused_with_the_reason() -> None:
    error = refusal(max_detections=101)
    assert error.code == "max_detections_too_high"
    assert "DETECTIONS_PER_IMAGE" in error.message


def test_a_model_without_a_cap_takes_any() -> None:
    model = description(max_detections=-1)
    assert resolve(model, max_detections=10**6).wanted.max_detections == 10**6
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
    assert resolve(classes=given).wanted.class_ids == ids


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
    assert answer.pop("box_mode") == full.pop("box_mode")
    assert answer == {name: [values[i] for i in keep] for name, values in full.items()}


def test_an_image_without_instances_has_empty_lists() -> None:
    assert as_json(found()[:0], resolve()) == {
        "box_mode": "XYXY_ABS", "pred_boxes": [], "pred_classes": [], "class_names": [],
        "scores": [], "masks": [],
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


# --- other outputs ------------------------------------------------------------------------------------


def whole(prediction: Prediction, model: ModelDescription, **options: Any) -> dict[str, Any]:
    encoded = encode_prediction(prediction, resolve(model, **options), model)
    answer: dict[str, Any] = orjson.loads(orjson.dumps(encoded, option=orjson.OPT_SERIALIZE_NUMPY))
    return answer


def test_rotated_boxes_are_named_and_have_their_corners() -> None:
    boxes = RotatedBoxes(torch.tensor([[20.0, 10.0, 8.0, 4.0, 0.0], [20.0, 10.0, 8.0, 4.0, 90.0]]))
    instances = found(2)
    instances.remove("pred_masks")
    instances.pred_boxes = boxes
    model = description(task="rotated_object_detection", box_mode="XYWHA_ABS")
    answer = whole(Prediction(instances=instances), model)["instances"]
    assert answer["box_mode"] == "XYWHA_ABS"
    assert answer["pred_boxes"] == boxes.tensor.tolist()
    assert answer["polygons"][0] == [[16, 8], [24, 8], [24, 12], [16, 12]]
    # A quarter turn counter-clockwise: what was top left is bottom left.
    np.testing.assert_allclose(
        answer["polygons"][1], [[18, 14], [18, 6], [22, 6], [22, 14]], atol=1e-5
    )


def test_keypoints_go_with_their_instances() -> None:
    instances = found(5)
    instances.pred_keypoints = torch.rand(5, 17, 3)
    model = description(task="keypoint_detection", outputs=("instances", "keypoints"))
    answer = whole(Prediction(instances=instances), model, max_detections=2)["instances"]
    expected = instances.pred_keypoints[:2]
    torch.testing.assert_close(torch.tensor(answer["pred_keypoints"]), expected)


def proposals(number: int = 6) -> Prediction:
    boxes = found(number).pred_boxes
    logits = torch.linspace(4, -4, number)
    return Prediction(proposals=Instances((48, 64), proposal_boxes=boxes, objectness_logits=logits))


@pytest.mark.parametrize(("options", "number"), [({}, 6), ({"max_detections": 2}, 2)])
def test_proposals_are_the_best_ones(options: dict[str, Any], number: int) -> None:
    model = description(task="region_proposal", outputs=("proposals",))
    answer = whole(proposals(), model, **options)
    assert list(answer) == ["proposals"]
    assert list(answer["proposals"]) == ["box_mode", "proposal_boxes", "objectness_logits"]
    assert len(answer["proposals"]["proposal_boxes"]) == number
    assert answer["proposals"]["objectness_logits"][0] == 4


def test_maps_are_left_out_on_request() -> None:
    model = description(stuff_class_names=("things", "sky"))
    segments = torch.zeros(4, 6, dtype=torch.int32)
    prediction = Prediction(
        instances=found(3), sem_seg=segments.to(torch.int16), panoptic_seg=(segments, [])
    )
    assert list(whole(prediction, model)) == ["instances", "sem_seg", "panoptic_seg"]
    assert list(whole(prediction, model, segmentation="none")) == ["instances"]


def test_panoptic_segments_are_not_filtered() -> None:
    model = description(stuff_class_names=("things", "sky"))
    infos = [{"id": 1, "isthing": True, "category_id": 0, "score": 0.1, "instance_id": 0}]
    segments = torch.ones(4, 6, dtype=torch.int32)
    prediction = Prediction(instances=found(3), panoptic_seg=(segments, infos))
    answer = whole(prediction, model, score_threshold=0.99, classes="square", max_detections=1)
    assert answer["panoptic_seg"]["segments_info"][0]["area"] == 24


def test_the_scores_of_a_prediction_without_instances_are_none() -> None:
    assert proposals().scores.tolist() == []
    assert Prediction(instances=found(3)).scores.tolist() == found(3).scores.tolist()


# --- what only some models take -----------------------------------------------------------------------


def test_tta_is_resolved_for_the_model() -> None:
    model = description(tta=Views((40, 50), 90, flip=False))
    assert resolve(model, tta="full").tta == model.tta
    assert resolve(model, tta="flip").tta == Views((64,), 128, flip=True)
    assert refusal(tta="full").code == "tta_not_supported"


def test_proposals_are_for_models_that_take_them() -> None:
    taking = description(takes_proposals=True)
    assert refusal(taking).code == "proposals_required"
    assert refusal(proposals=[[]]).code == "proposals_not_taken"
    resolve(taking, proposals=[[]])


def test_the_refusal_of_a_threshold_names_the_models_own_key() -> None:
    model = description(score_threshold_key="MODEL.RETINANET.SCORE_THRESH_TEST")
    message = refusal(model, score_threshold=0.01).message
    assert "Lower MODEL.RETINANET.SCORE_THRESH_TEST" in message
