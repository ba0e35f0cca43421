"""What is checked in an annotation, and what is added to it."""

from typing import Any

import numpy as np
import pytest
from coco_files import DatasetFiles

from models.evaluation import EvaluationError
from models.evaluation.annotations import ground_truth
from models.structures import encode_rle_crop

HEIGHT, WIDTH = 40, 60
SQUARE = encode_rle_crop(np.ones((5, 4), bool), left=2, top=3, height=HEIGHT, width=WIDTH)
RUNS = {"size": [HEIGHT, WIDTH], "counts": [83, 5, HEIGHT * WIDTH - 88]}


def checked(*left_out: str, **changes: Any) -> dict[str, Any]:
    """An annotation of a square of 20 pixels, changed."""
    given = {**DatasetFiles.annotation(0, 3, 5, [10, 10, 20, 20]), **changes}
    for key in left_out:
        del given[key]
    return ground_truth(given, 7, HEIGHT, WIDTH)


def test_the_id_is_the_place_since_zero_would_be_nothing() -> None:
    assert checked()["id"] == checked("id")["id"] == 7


def test_what_tools_leave_out_is_added() -> None:
    assert checked("iscrowd")["iscrowd"] == 0
    assert checked("area", "segmentation")["area"] == 400
    assert "segmentation" not in checked(segmentation=[])


@pytest.mark.parametrize(
    ("segmentation", "area"),
    [([[10, 10, 30, 10, 30, 20, 10, 20]], 200), (SQUARE, 20), (RUNS, 5)],
)
def test_an_area_that_is_left_out_is_the_masks(segmentation: Any, area: float) -> None:
    assert checked("area", segmentation=segmentation)["area"] == area
    assert checked(segmentation=segmentation)["segmentation"] == segmentation


def test_keypoints_that_are_visible_are_counted() -> None:
    assert checked(keypoints=[1, 2, 2, 0, 0, 0, 5, 5, 1])["num_keypoints"] == 2


def test_a_polygon_may_leave_the_picture_a_little() -> None:
    assert checked("area", segmentation=[[-5, -5, 10, -5, 10, 10, -5, 10]])["area"] > 0


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("bbox", None, "the bbox None"),
        ("bbox", [1, 2, 3], "the bbox"),
        ("bbox", [1, 2, -3, 4], "the bbox"),
        ("bbox", [1, 2, float("nan"), 4], "the bbox"),
        ("bbox", [1, 2, True, 4], "the bbox"),
        ("iscrowd", 2, "iscrowd 2"),
        ("area", -1, "the area -1"),
        ("area", "1", "the area '1'"),
        ("keypoints", [1, 2], "the keypoints"),
        ("keypoints", [], "the keypoints"),
        ("segmentation", "text", "neither polygons nor a mask"),
        ("segmentation", 5, "neither polygons nor a mask"),
        ("segmentation", [[1, 2, 3, 4]], "three corners or more"),
        ("segmentation", [[1, 2, 3, 4, 5, 6, 7]], "three corners or more"),
        ("segmentation", [1, 2, 3, 4, 5, 6], "three corners or more"),
        ("segmentation", [[0, 0, 1e9, 0, 1e9, 1e9]], "leaves the picture by more"),
        ("segmentation", {**SQUARE, "size": [WIDTH, HEIGHT]}, r"its size is not \[40, 60\]"),
        ("segmentation", {**RUNS, "counts": [80, 5]}, "its runs cover 85 of 2400 pixels"),
    ],
)
def test_what_is_not_in_cocos_format(field: str, value: Any, said: str) -> None:
    with pytest.raises(EvaluationError, match=said) as caught:
        checked(**{field: value})
    assert caught.value.message.startswith("Annotation 0 has")
