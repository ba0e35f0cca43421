"""Instances as shapes of CVAT."""

from typing import Any, get_args

import numpy as np
import pytest
from fake_detector import FakeDetector

from models.structures.rle import encode_rle_crop
from service.cvat.shapes import Shape, check_shape, encode_shapes
from service.errors import Unprocessable

GOLDEN = np.array([[0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=bool)
HEIGHT, WIDTH = 3, 4


def instances(*masks: np.ndarray, **more: Any) -> dict[str, Any]:
    """As POST /predict has them, before they are JSON: boxes of 1, 0 to 4.5, 3."""
    number = len(masks)
    encoded = [encode_rle_crop(mask, left=0, top=0, height=HEIGHT, width=WIDTH) for mask in masks]
    return {
        "pred_boxes": np.array([[1, 0, 4.5, 3]] * number, dtype=np.float32).reshape(number, 4),
        "pred_classes": np.zeros(number, dtype=np.int64),
        "class_names": ["disc"] * number,
        "scores": np.full(number, 0.98, dtype=np.float32),
        "masks": encoded,
    } | more


def encode(given: dict[str, Any], shape: Shape) -> list[dict[str, Any]]:
    return encode_shapes(given, shape, width=WIDTH, height=HEIGHT)


def test_a_rectangle_is_clipped_and_its_confidence_is_text() -> None:
    assert encode(instances(GOLDEN), "rectangle") == [
        {"confidence": "0.98", "label": "disc", "type": "rectangle", "points": [1, 0, 4, 3]}
    ]


def test_a_mask_has_the_pixels_of_its_crop_and_its_inclusive_corners() -> None:
    [shape] = encode(instances(GOLDEN), "mask")
    assert shape["type"] == "mask"
    assert shape["mask"] == [0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 3, 2]
    assert all(type(value) is int for value in shape["mask"])


def test_run_lengths_are_those_of_cvats_api() -> None:
    [shape] = encode(instances(GOLDEN), "rle")
    assert (shape["type"], shape["points"]) == ("mask", [1, 1, 1, 2, 2, 2, 1, 0, 3, 2])
    assert "mask" not in shape


def test_run_lengths_begin_with_background_even_where_there_is_none() -> None:
    [shape] = encode(instances(np.ones((3, 4), dtype=bool)), "rle")
    assert shape["points"] == [0, 12, 0, 0, 3, 2]


def test_each_part_of_a_mask_is_a_polygon() -> None:
    parts = np.array([[1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]], dtype=bool)
    shapes = encode(instances(parts), "polygon")
    assert [shape["type"] for shape in shapes] == ["polygon", "polygon"]
    assert [min(shape["points"][::2]) for shape in shapes] == [0, 3]
    assert all(len(shape["points"]) >= 6 for shape in shapes)


@pytest.mark.parametrize("shape", ["mask", "rle", "polygon"])
def test_an_empty_mask_is_no_shape(shape: Shape) -> None:
    empty = np.zeros((HEIGHT, WIDTH), dtype=bool)
    assert len(encode(instances(empty, GOLDEN), shape)) == 1


@pytest.mark.parametrize("shape", get_args(Shape))
def test_no_instances_are_no_shapes(shape: Shape) -> None:
    assert encode(instances(), shape) == []


def rotated() -> dict[str, Any]:
    given = instances(GOLDEN, pred_boxes=np.array([[2, 1.5, 2, 1, 30]], dtype=np.float32))
    del given["masks"]
    given["polygons"] = np.array([[[1, 1], [3, 1], [9, 2], [1, 2]]], dtype=np.float32)
    return given


def test_a_rotated_box_is_a_rectangle_turned_clockwise_around_its_middle() -> None:
    [shape] = encode(rotated(), "rectangle")
    assert (shape["points"], shape["rotation"]) == ([1, 1, 3, 2], 330)


def test_a_rotated_box_as_a_polygon_has_its_corners() -> None:
    [shape] = encode(rotated(), "polygon")
    assert shape["points"] == [1, 1, 3, 1, 4, 2, 1, 2]


@pytest.mark.parametrize(
    ("described", "possible"),
    [
        ({"outputs": ("instances", "masks")}, {"rectangle", "polygon", "mask", "rle"}),
        ({"outputs": ("instances",)}, {"rectangle"}),
        ({"outputs": ("instances",), "box_mode": "XYWHA_ABS"}, {"rectangle", "polygon"}),
        ({"outputs": ("sem_seg",)}, set()),
    ],
)
def test_what_a_model_has_not_is_refused(described: dict[str, Any], possible: set[str]) -> None:
    model = FakeDetector(**described).description
    for shape in get_args(Shape):
        if shape in possible:
            check_shape(shape, model)
            continue
        with pytest.raises(Unprocessable, match=f"shape={shape}") as caught:
            check_shape(shape, model)
        assert caught.value.code == "shape_not_supported"
