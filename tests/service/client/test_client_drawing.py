"""Prediction.draw: what stands on the picture, pixel by pixel where it matters."""

from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from PIL import Image
from test_client_answers import one as answered

from service.client import Prediction
from service.client.answers import ModelVersion
from service.encoding.palette import class_color
from service.encoding.segmentation import encode_panoptic_seg, encode_sem_seg

HEIGHT, WIDTH = 40, 60
GREY = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
SKELETON = ((0, 1),)


def prediction(**outputs: Any) -> Prediction:
    return Prediction(
        name="a.png",
        width=WIDTH,
        height=HEIGHT,
        error=None,
        model=ModelVersion("m", "1", "RCNN", "00", ("a", "b"), SKELETON),
        timing_ms={},
        request_id="abc",
        raw=outputs,
    )


def instances(**changes: Any) -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    mask[10:30, 10:30] = 1
    rle = pycocotools.mask.encode(mask)
    return {
        "box_mode": "XYXY_ABS",
        "pred_boxes": [[10.0, 10.0, 30.0, 30.0]],
        "pred_classes": [3],
        "class_names": ["disc"],
        "scores": [0.9],
        "masks": [{"size": rle["size"], "counts": rle["counts"].decode()}],
    } | changes


def drawn(found: Prediction, **options: Any) -> np.ndarray:
    return np.array(found.draw(GREY, **options))


def test_box_and_mask_have_the_colour_of_the_class_as_the_server_draws_it() -> None:
    picture = drawn(prediction(instances=instances()))
    assert picture.shape == GREY.shape
    assert tuple(picture[10, 20]) == class_color(3)
    expected = 0.58 * 128 + 0.42 * np.array(class_color(3))
    assert np.abs(picture[20, 20] - expected).max() <= 1
    assert (picture[35:, 40:] == 128).all()
    assert (GREY == 128).all()


def test_colours_of_the_owner_take_their_place() -> None:
    picture = drawn(prediction(instances=instances()), colors={3: "#ff0000"})
    assert tuple(picture[10, 20]) == (255, 0, 0)


def test_masks_and_labels_can_be_left_out() -> None:
    found = prediction(instances=instances())
    bare = drawn(found, masks=False, labels=False)
    assert (bare[15:25, 15:25] == 128).all()
    changed = (bare != 128).any(axis=2)
    assert changed[10:30, 10:30].sum() == changed.sum()
    tagged = drawn(prediction(instances=instances(pred_boxes=[[10.0, 20.0, 55.0, 38.0]])))
    assert (tagged[:19] != 128).any()


def test_an_answer_without_masks_is_drawn_too() -> None:
    picture = drawn(prediction(instances=instances(masks=None)))
    assert tuple(picture[10, 20]) == class_color(3)
    assert (picture[20, 20] == 128).all()


def test_keypoints_are_joined_and_unsure_ones_left_out() -> None:
    sure = [[[5.0, 35.0, 0.9], [55.0, 35.0, 0.9]]]
    unsure = [[[5.0, 35.0, 0.9], [55.0, 35.0, 0.01]]]
    joined = drawn(prediction(instances=instances(pred_keypoints=sure)))
    single = drawn(prediction(instances=instances(pred_keypoints=unsure)))
    assert tuple(joined[35, 45]) == class_color(0)
    assert tuple(joined[35, 5]) == tuple(single[35, 5]) == (255, 255, 255)
    assert (single[35, 45] == 128).all()


def test_a_rotated_box_is_shown_as_it_lies() -> None:
    corners = [[[20.0, 10.0], [30.0, 20.0], [20.0, 30.0], [10.0, 20.0]]]
    rotated = instances(
        box_mode="XYWHA_ABS", pred_boxes=[[20, 20, 14, 14, 45]], polygons=corners, masks=None
    )
    picture = drawn(prediction(instances=rotated), labels=False)
    assert not (picture[20, 20] == 128).all()
    assert (picture[12, 12] == 128).all()


def test_a_semantic_map_has_a_colour_for_each_class() -> None:
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    ids[:, 30:] = 1
    picture = drawn(prediction(sem_seg=encode_sem_seg(ids, ("grass", "sky"), "png")))
    assert tuple(picture[20, 15]) != tuple(picture[20, 45])
    assert (picture[20, 15] != 128).any()


def test_a_panoptic_map_stands_in_the_place_of_masks() -> None:
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    ids[:, 30:] = 2
    ids[10:30, 10:30] = 1
    infos = [
        {"id": 1, "isthing": True, "category_id": 3, "score": 0.9, "instance_id": 0},
        {"id": 2, "isthing": False, "category_id": 0},
    ]
    names = ("a", "b", "c", "disc")
    seg = encode_panoptic_seg(ids, infos, things=names, stuff=("sky",), form="png")
    picture = drawn(prediction(instances=instances(), panoptic_seg=seg), labels=False)
    once = np.round(0.58 * 128 + 0.42 * np.array(class_color(3)))
    assert np.abs(picture[20, 20] - once).max() <= 1
    assert (picture[35, 5] == 128).all()
    assert (picture[35, 50] != 128).any()


def test_a_picture_without_findings_is_itself() -> None:
    assert np.array_equal(drawn(prediction()), GREY)


def test_another_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"another picture: it has 60 x 40 pixels, .* 3 x 2"):
        answered().draw(Image.fromarray(GREY))
