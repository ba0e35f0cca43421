"""PolygonMasks: masks as COCO draws them."""

import numpy as np
import pytest
import torch

from models import PolygonMasks

SQUARE = [2.0, 2, 6, 2, 6, 6, 2, 6]
TRIANGLE = [0.0, 0, 4, 0, 4, 4]


def three_masks() -> PolygonMasks:
    """A square, a triangle with another square, and nothing."""
    return PolygonMasks([[SQUARE], [TRIANGLE, [5, 5, 9, 5, 9, 9, 5, 9]], []])


def test_areas_are_those_of_the_polygons() -> None:
    assert three_masks().area().tolist() == [16, 8 + 16, 0]


def test_boxes_hold_all_polygons_of_a_mask() -> None:
    boxes = three_masks().get_bounding_boxes().tensor
    assert boxes.tolist() == [[2, 2, 6, 6], [0, 0, 9, 9], [0, 0, 0, 0]]


def test_a_mask_without_polygons_is_empty() -> None:
    assert three_masks().nonempty().tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("item", "areas"),
    [
        (1, [24]),
        (slice(0, 2), [16, 24]),
        (torch.tensor([True, False, True]), [16, 0]),
        (torch.tensor([1, 0, 1]), [24, 16, 24]),
        (torch.zeros(0, dtype=torch.int64), []),
    ],
)
def test_polygon_masks_can_be_selected(item: int | slice | torch.Tensor, areas: list[int]) -> None:
    assert three_masks()[item].area().tolist() == areas


def test_a_selection_of_another_length_is_refused() -> None:
    with pytest.raises(IndexError, match="from 3 masks"):
        three_masks()[torch.tensor([True, False])]


def test_cat_joins_polygon_masks() -> None:
    joined = PolygonMasks.cat([three_masks(), three_masks()[0]])
    assert joined.area().tolist() == [16, 24, 0, 16]
    assert [len(instance) for instance in joined] == [1, 2, 0, 1]


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ([2.0, 2.0, 6.0, 6.0], slice(0, 4), slice(0, 4)),  # the square itself
        ([2.0, 2.0, 10.0, 10.0], slice(0, 2), slice(0, 2)),  # its upper left quarter is the square
        ([0.0, 2.0, 8.0, 6.0], slice(0, 4), slice(1, 3)),  # twice as wide: each axis by itself
        ([20.0, 20.0, 30.0, 30.0], slice(0, 0), slice(0, 0)),  # elsewhere
    ],
)
def test_a_polygon_is_moved_and_scaled_into_the_box(
    box: list[float], rows: slice, columns: slice
) -> None:
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[rows, columns] = True
    crops = PolygonMasks([[SQUARE]]).crop_and_resize(torch.tensor([box]), 4)
    assert torch.equal(crops[0], expected)


def test_crops_leave_the_polygons_as_they_are() -> None:
    masks = three_masks()
    crops = masks.crop_and_resize(torch.tensor([[2.0, 2, 10, 10]] * 3), 8)
    assert crops.dtype == torch.bool
    assert crops.any(dim=(1, 2)).tolist() == [True, True, False]
    assert masks.area().tolist() == three_masks().area().tolist()


def test_as_many_boxes_as_polygon_masks_are_needed() -> None:
    with pytest.raises(ValueError, match="to crop 3 masks"):
        three_masks().crop_and_resize(torch.zeros(2, 4), 28)


def test_no_polygon_masks_are_no_error() -> None:
    masks = PolygonMasks([])
    assert masks.crop_and_resize(torch.zeros(0, 4), 28).shape == (0, 28, 28)
    assert masks.get_bounding_boxes().tensor.shape == (0, 4)
    assert masks.area().shape == masks.nonempty().shape == (0,)


@pytest.mark.parametrize("polygon", [[0, 0, 1, 1], [0, 0, 1, 1, 2, 2, 3], []])
def test_what_is_no_polygon_is_refused(polygon: list[float]) -> None:
    with pytest.raises(ValueError, match=f"three points or more.*got {len(polygon)}"):
        PolygonMasks([[polygon]])


def test_polygons_stay_on_the_host_as_float64() -> None:
    masks = three_masks().to("cpu")
    assert masks.polygons[0][0].dtype == np.float64
    assert masks.device == torch.device("cpu")
