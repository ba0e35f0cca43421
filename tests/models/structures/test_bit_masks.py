"""BitMasks: one bool per pixel."""

import pytest
import torch

from models.structures import BitMasks


def two_masks() -> BitMasks:
    tensor = torch.zeros(2, 6, 8)
    tensor[0, 1:3, 2:7] = 1
    return BitMasks(tensor)


def test_masks_become_bool() -> None:
    masks = two_masks()
    assert masks.tensor.dtype == torch.bool
    assert masks.image_size == (6, 8)


def test_another_shape_than_r_h_w_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(R, H, W\)"):
        BitMasks(torch.zeros(6, 8))


def test_bounding_boxes_are_tight_and_zero_for_an_empty_mask() -> None:
    assert two_masks().get_bounding_boxes().tensor.tolist() == [[2, 1, 7, 3], [0, 0, 0, 0]]


def test_nonempty_has_at_least_one_pixel() -> None:
    assert two_masks().nonempty().tolist() == [True, False]


@pytest.mark.parametrize(
    ("item", "length"), [(0, 1), (slice(0, 2), 2), (torch.tensor([True, False]), 1)]
)
def test_mask_indexing_gives_masks(item: int | slice | torch.Tensor, length: int) -> None:
    assert len(two_masks()[item]) == length


def test_cat_joins_masks() -> None:
    assert len(BitMasks.cat([two_masks(), two_masks()[0]])) == 3


def test_no_masks_have_no_boxes() -> None:
    masks = BitMasks(torch.zeros(0, 6, 8))
    assert masks.get_bounding_boxes().tensor.shape == (0, 4)
    assert masks.nonempty().shape == (0,)
