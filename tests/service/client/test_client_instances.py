"""Instances of an answer: arrays, subsets, masks on demand, COCO."""

from typing import Any

import numpy as np
import pycocotools.mask
import pytest

from service.client import Instances

HEIGHT, WIDTH = 6, 8


def mask_of(place: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[place : place + 2, 1:5] = True
    return mask


def rle_of(mask: np.ndarray) -> dict[str, Any]:
    rle = pycocotools.mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def answer(number: int = 3, **changes: Any) -> dict[str, Any]:
    return {
        "box_mode": "XYXY_ABS",
        "pred_boxes": [[1.0, float(i), 5.0, i + 2.0] for i in range(number)],
        "pred_classes": list(range(number)),
        "class_names": [f"class {i}" for i in range(number)],
        "scores": [0.9 - 0.25 * i for i in range(number)],
        "masks": [rle_of(mask_of(i)) for i in range(number)],
    } | changes


def read(**changes: Any) -> Instances:
    return Instances.from_json(answer(**changes), (HEIGHT, WIDTH))


def test_types_and_shapes() -> None:
    found = read(pred_keypoints=[[[1.0, 2.0, 0.5]] * 4] * 3)
    assert len(found) == 3
    assert (found.boxes.shape, found.boxes.dtype) == ((3, 4), np.float32)
    assert (found.classes.tolist(), found.classes.dtype) == ([0, 1, 2], np.int64)
    assert (found.scores.shape, found.scores.dtype) == ((3,), np.float32)
    assert found.class_names == ("class 0", "class 1", "class 2")
    assert found.keypoints is not None
    assert found.keypoints.shape == (3, 4, 3)


def test_nothing_found_has_the_same_shapes() -> None:
    found = read(number=0, pred_keypoints=[])
    assert found.boxes.shape == (0, 4)
    assert found.masks is not None
    assert found.masks.shape == (0, HEIGHT, WIDTH)
    assert found.keypoints is not None
    assert found.keypoints.shape == (0, 0, 3)
    assert found.to_coco() == []


def test_masks_are_decoded_once_and_when_asked_for() -> None:
    found = read()
    assert "masks" not in vars(found)
    assert found.masks is not None
    assert found.masks.dtype == np.bool_
    assert np.array_equal(found.masks, [mask_of(0), mask_of(1), mask_of(2)])
    assert found.masks is found.masks
    assert np.array_equal(found.mask(2), mask_of(2))


def test_without_masks_there_are_none() -> None:
    found = read(masks=None)
    assert found.masks is None
    with pytest.raises(ValueError, match="There are no masks"):
        found.mask(0)


@pytest.mark.parametrize(
    ("index", "classes"),
    [
        (1, [1]),
        (-1, [2]),
        (slice(2), [0, 1]),
        ([2, 0], [2, 0]),
        (np.array([True, False, True]), [0, 2]),
        (np.array([False] * 3), []),
    ],
)
def test_some_of_them_are_instances_again(index: Any, classes: list[int]) -> None:
    some = read()[index]
    assert some.classes.tolist() == classes
    assert some.class_names == tuple(f"class {i}" for i in classes)
    assert some.masks is not None
    assert np.array_equal(some.masks, np.reshape([mask_of(i) for i in classes], some.masks.shape))


def test_a_place_that_is_not_there() -> None:
    with pytest.raises(IndexError):
        read()[3]


def test_they_can_be_walked_through() -> None:
    assert [one.class_names for one in read()] == [("class 0",), ("class 1",), ("class 2",)]


def test_coco_results_are_those_that_pycocotools_reads() -> None:
    results = read(pred_keypoints=[[[1.5, 2.5, 0.5]]] * 3).to_coco(image_id=7)
    assert results[1] == {
        "image_id": 7,
        "category_id": 2,
        "bbox": [1.0, 1.0, 4.0, 2.0],
        "score": pytest.approx(0.65),
        "segmentation": rle_of(mask_of(1)),
        "keypoints": [1.0, 2.0, 0.5],
    }
    assert np.array_equal(pycocotools.mask.decode(results[1]["segmentation"]), mask_of(1))


@pytest.mark.parametrize("ids", [[10, 20, 30], {0: 10, 1: 20, 2: 30}, lambda i: 10 * (i + 1)])
def test_categories_may_have_the_ids_of_a_data_set(ids: Any) -> None:
    assert [r["category_id"] for r in read().to_coco(category_ids=ids)] == [10, 20, 30]


def test_rotated_boxes_keep_their_angle() -> None:
    rotated = {"box_mode": "XYWHA_ABS", "masks": None, "pred_boxes": [[4.0, 3.0, 2.0, 1.0, 30.0]]}
    corners = [[[3.0, 2.0], [5.0, 2.0], [5.0, 4.0], [3.0, 4.0]]]
    found = read(number=1, polygons=corners, **rotated)
    assert found.boxes.shape == (1, 5)
    assert found.corners is not None
    assert found.corners.shape == (1, 4, 2)
    assert found.to_coco()[0]["bbox"] == [4.0, 3.0, 2.0, 1.0, 30.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": [0.5]},
        {"pred_boxes": [[1.0, 2.0]] * 3},
        {"class_names": []},
        {"masks": [rle_of(np.ones((2, 2)))] * 3},
        {"masks": []},
        {"box_mode": "XYWH_ABS"},
        {"pred_boxes": "abc"},
    ],
)
def test_lists_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        read(**changes)
