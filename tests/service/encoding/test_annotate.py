"""A prediction drawn on its picture, one kind of output at a time."""

from typing import Any

import numpy as np
import pytest
import torch
from fake_detector import FakeDetector
from numpy.typing import NDArray

from models.structures import Boxes, Instances, RotatedBoxes
from service.encoding.annotate import SHOWN_PROPOSALS, annotate
from service.encoding.instances import Selection
from service.encoding.palette import class_color
from service.inference.detector import ModelDescription, Prediction
from service.schemas.options import PredictOptions

HEIGHT, WIDTH = 120, 160
NAMES = ("disc", "square")
BOX = [30.0, 40.0, 90.0, 100.0]


def grey() -> NDArray[np.uint8]:
    return np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def describe(**changes: Any) -> ModelDescription:
    return FakeDetector(class_names=NAMES, max_detections=-1, **changes).description


def draw(
    prediction: Prediction, model: ModelDescription | None = None, **options: Any
) -> NDArray[np.uint8]:
    model = model or describe()
    selection = Selection.resolve(PredictOptions.parse(options), model)
    before = grey()
    picture = annotate(before, prediction, selection, model)
    np.testing.assert_array_equal(before, grey())  # not changed
    assert picture.size == (WIDTH, HEIGHT)
    return np.asarray(picture)


def instances(boxes: Any = None, **fields: Any) -> Prediction:
    boxes = Boxes(torch.tensor([BOX])) if boxes is None else boxes
    number = len(boxes)
    found = Instances(
        (HEIGHT, WIDTH),
        pred_boxes=boxes,
        scores=torch.linspace(0.9, 0.5, number),
        pred_classes=torch.arange(number) % 2,
        **fields,
    )
    return Prediction(instances=found)


def changed(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((picture != grey()).any(axis=2))


def has(picture: NDArray[np.uint8], x: int, y: int, color: tuple[int, ...]) -> bool:
    return tuple(picture[y, x].tolist()) == color


def test_nothing_found_leaves_the_picture() -> None:
    assert not changed(draw(Prediction())).any()
    assert not changed(draw(instances(Boxes(torch.zeros(0, 4))), masks="none")).any()


def test_instances_have_their_box_and_their_mask() -> None:
    found = instances(pred_masks=torch.ones(1, 1, 28, 28))
    with_mask, without = draw(found), draw(found, masks="none")
    assert has(with_mask, 30, 70, class_color(0))
    assert changed(with_mask)[70, 60]
    assert has(without, 30, 70, class_color(0))
    assert not changed(without)[70, 60]


def test_masks_that_are_whole_frames_are_drawn_where_they_lie() -> None:
    frames = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    frames[0, 60:80, 40:70] = True
    picture = draw(instances(pred_masks=frames))
    assert changed(picture)[70, 55]
    assert not changed(picture)[90, 55]


def test_what_the_request_left_out_is_not_drawn() -> None:
    boxes = Boxes(torch.tensor([BOX, [100.0, 40.0, 150.0, 100.0]]))
    picture = draw(instances(boxes), masks="none", score_threshold=0.8)
    assert changed(picture)[70, 30]
    assert not changed(picture)[70, 100]


def test_rotated_boxes_are_drawn_as_they_lie() -> None:
    diamond = RotatedBoxes(torch.tensor([[80.0, 60.0, 60.0, 60.0, 45.0]]))
    model = describe(task="rotated_object_detection", box_mode="XYWHA_ABS")
    picture = changed(draw(instances(diamond), model))
    assert picture[60, 80]  # the middle
    assert picture[60, 45]  # the left corner, at 80 - 42.4
    assert not picture[30, 50]  # inside the enclosing box, outside the diamond
    assert not picture[90, 110]


@pytest.mark.parametrize(
    "box",
    [
        [-500.0, -500.0, 40.0, 20.0, 30.0],
        [80.0, 60.0, 5000.0, 4000.0, 10.0],
        [80.0, 60.0, 0.0, 0.0, 0.0],
        [159.9, 119.9, 40.0, 2.0, -80.0],
    ],
    ids=["outside", "huge", "empty", "in the corner"],
)
def test_a_rotated_box_anywhere_can_be_drawn(box: list[float]) -> None:
    model = describe(task="rotated_object_detection", box_mode="XYWHA_ABS")
    draw(instances(RotatedBoxes(torch.tensor([box]))), model)


def keypoints_model() -> ModelDescription:
    return describe(
        task="keypoint_detection",
        outputs=("instances", "keypoints"),
        keypoint_names=("head", "hand", "foot"),
        keypoint_skeleton=((0, 1), (1, 2)),
    )


def test_keypoints_and_their_skeleton_are_drawn() -> None:
    points = torch.tensor([[[40.0, 50.0, 0.9], [80.0, 50.0, 0.9], [80.0, 90.0, 0.9]]])
    picture = draw(instances(pred_keypoints=points), keypoints_model())
    assert has(picture, 40, 50, (255, 255, 255))
    assert has(picture, 60, 50, class_color(0))  # the first line
    assert has(picture, 80, 70, class_color(1))  # the second


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_a_skeleton_has_a_dark_rim_on_any_ground(ground: int) -> None:
    points = torch.tensor([[[40.0, 50.0, 0.9], [80.0, 50.0, 0.9], [80.0, 90.0, 0.9]]])
    model = keypoints_model()
    pixels = np.full((HEIGHT, WIDTH, 3), ground, dtype=np.uint8)
    selection = Selection.resolve(PredictOptions.parse({}), model)
    prediction = instances(pred_keypoints=points)
    column = np.asarray(annotate(pixels, prediction, selection, model))[:, 60].tolist()
    rim, color = [0, 0, 0], list(class_color(0))
    above = next(y for y in range(50, 0, -1) if column[y] != color)
    below = next(y for y in range(50, HEIGHT) if column[y] != color)
    assert below - above > 1
    assert (column[above], column[below]) == (rim, rim)


def test_a_keypoint_that_is_not_seen_is_left_out_with_its_lines() -> None:
    points = torch.tensor([[[40.0, 50.0, 0.9], [80.0, 50.0, 0.9], [80.0, 90.0, 0.01]]])
    picture = changed(draw(instances(pred_keypoints=points), keypoints_model()))
    assert picture[50, 60]
    assert not picture[70, 80]
    assert not picture[90, 80]


def test_keypoints_outside_of_the_picture_do_no_harm() -> None:
    points = torch.tensor([[[-9e4, 50.0, 0.9], [80.0, 9e4, 0.9], [80.0, 90.0, 0.9]]])
    draw(instances(pred_keypoints=points), keypoints_model())


def proposals(boxes: Boxes | RotatedBoxes) -> Prediction:
    logits = torch.linspace(5, -5, len(boxes))
    found = Instances((HEIGHT, WIDTH), proposal_boxes=boxes, objectness_logits=logits)
    return Prediction(proposals=found)


PROPOSER = {"task": "region_proposal", "outputs": ("proposals",), "class_names": ()}


def columns_of_boxes(number: int) -> Boxes:
    """Boxes of 3 pixels side by side, from the top to the bottom."""
    left = torch.arange(number) * 5.0
    top, bottom = torch.zeros_like(left), torch.full_like(left, HEIGHT)
    return Boxes(torch.stack((left, top, left + 3, bottom), dim=1))


@pytest.mark.parametrize(("options", "shown"), [({}, SHOWN_PROPOSALS), ({"max_detections": 3}, 3)])
def test_the_best_proposals_are_drawn(options: dict[str, Any], shown: int) -> None:
    description = FakeDetector(**(PROPOSER | {"max_detections": 1000})).description
    picture = draw(proposals(columns_of_boxes(30)), description, **options)
    found = [bool((picture == class_color(i)).all(axis=2).any()) for i in range(30)]
    assert found == [i < shown for i in range(30)]


def test_rotated_proposals_are_drawn_by_their_enclosing_boxes() -> None:
    description = FakeDetector(**(PROPOSER | {"box_mode": "XYWHA_ABS"})).description
    turned = RotatedBoxes(torch.tensor([[80.0, 60.0, 60.0, 20.0, 90.0]]))
    picture = draw(proposals(turned), description)
    assert has(picture, 70, 60, class_color(0))  # 10 to the left of the middle
    assert not changed(picture)[60, 60]


def halves() -> torch.Tensor:
    """Class 0 on the left, class 1 on the right."""
    classes = torch.zeros(HEIGHT, WIDTH, dtype=torch.int16)
    classes[:, WIDTH // 2 :] = 1
    return classes


def test_a_semantic_map_covers_the_picture_in_its_colors() -> None:
    model = describe(task="semantic_segmentation", outputs=("sem_seg",))
    picture = draw(Prediction(sem_seg=halves()), model)
    assert changed(picture).all()
    left, right = picture[60, 40].astype(int), picture[60, 120].astype(int)
    for found, class_id in ((left, 0), (right, 1)):
        expected = 128 * 0.58 + np.array(class_color(class_id)) * 0.42
        assert np.abs(found - expected).max() <= 1
    assert not changed(draw(Prediction(sem_seg=halves()), model, segmentation="none")).any()


def panoptic() -> Prediction:
    segments = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
    segments[:, WIDTH // 2 :] = 2
    segments[70:110, 10:60] = 1
    infos = [
        {"id": 1, "isthing": True, "category_id": 1, "score": 0.9, "instance_id": 0},
        {"id": 2, "isthing": False, "category_id": 0, "area": 9600},
    ]
    found = instances().instances
    return Prediction(instances=found, sem_seg=halves(), panoptic_seg=(segments, infos))


PANOPTIC = {
    "task": "panoptic_segmentation",
    "outputs": ("instances", "sem_seg", "panoptic_seg"),
    "stuff_class_names": ("things", "sky"),
}


def test_a_panoptic_map_is_drawn_instead_of_its_instances() -> None:
    picture = draw(panoptic(), describe(**PANOPTIC))
    assert has(picture, 10, 90, class_color(1))  # the thing's box and outline
    assert changed(picture)[20, 120]  # stuff
    assert not changed(picture)[20, 20]  # no segment
    assert not has(picture, 30, 45, class_color(0))  # the instance's own box


def test_stuff_has_other_colors_than_things() -> None:
    stuff = draw(panoptic(), describe(**PANOPTIC))[20, 120].astype(int)
    expected = 128 * 0.58 + np.array(class_color(len(NAMES))) * 0.42
    assert np.abs(stuff - expected).max() <= 1


def test_without_segmentation_a_panoptic_answer_shows_its_instances() -> None:
    picture = draw(panoptic(), describe(**PANOPTIC), segmentation="none")
    assert has(picture, 30, 70, class_color(0))
    assert not changed(picture)[20, 120]


def test_a_segment_without_a_pixel_is_not_drawn() -> None:
    infos = [{"id": 5, "isthing": True, "category_id": 0}]
    empty = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
    prediction = Prediction(panoptic_seg=(empty, infos))
    assert not changed(draw(prediction, describe(**PANOPTIC))).any()


OWN = (12, 200, 34)


def test_instances_have_the_colors_that_the_models_owner_chose() -> None:
    boxes = Boxes(torch.tensor([BOX, [100.0, 40.0, 150.0, 100.0]]))
    picture = draw(instances(boxes), describe(class_colors=(None, OWN)), masks="none")
    assert has(picture, 30, 70, class_color(0))
    assert has(picture, 100, 70, OWN)


def test_a_panoptic_map_has_the_chosen_colors_for_things_alone() -> None:
    plain = draw(panoptic(), describe(**PANOPTIC))
    picture = draw(panoptic(), describe(**PANOPTIC, class_colors=(OWN, OWN)))
    assert has(picture, 10, 90, OWN)
    assert (picture[20, 120] == plain[20, 120]).all()


def test_a_semantic_map_has_the_chosen_colors() -> None:
    model = describe(
        task="semantic_segmentation", outputs=("sem_seg",), class_colors=(None, (255, 0, 0))
    )
    picture = draw(Prediction(sem_seg=halves()), model).astype(int)
    assert np.abs(picture[60, 120] - (128 * 0.58 + np.array([255, 0, 0]) * 0.42)).max() <= 1
    assert np.abs(picture[60, 40] - (128 * 0.58 + np.array(class_color(0)) * 0.42)).max() <= 1
