"""BitMasks, and run-length encoding of a mask from the crop around its box."""

import numpy as np
import pycocotools.mask as mask_api
import pytest
import torch

from models.structures import BitMasks, encode_rle_crop


def two_masks() -> BitMasks:
    tensor = torch.zeros(2, 6, 8)
    tensor[0, 1:3, 2:7] = 1
    return BitMasks(tensor)


def assert_encodes_like_the_full_frame(
    bits: np.ndarray, left: int, top: int, height: int, width: int
) -> None:
    frame = np.zeros((height, width), dtype=np.uint8)
    frame[top : top + bits.shape[0], left : left + bits.shape[1]] = bits
    expected = mask_api.encode(np.asfortranarray(frame))
    encoded = encode_rle_crop(bits, left=left, top=top, height=height, width=width)
    assert encoded == {"size": [height, width], "counts": expected["counts"].decode("ascii")}


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


@pytest.mark.parametrize("seed", range(10))
def test_random_crops_encode_like_the_full_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(50):
        height, width = rng.integers(1, 25, size=2)
        top, left = rng.integers(0, height), rng.integers(0, width)
        shape = rng.integers(1, height - top + 1), rng.integers(1, width - left + 1)
        bits = rng.random(shape) < rng.choice([0.02, 0.5, 0.98])
        assert_encodes_like_the_full_frame(bits, int(left), int(top), int(height), int(width))


@pytest.mark.parametrize(("left", "top"), [(0, 0), (3, 0), (0, 2), (3, 2)])
@pytest.mark.parametrize("fill", [False, True])
def test_crops_in_each_corner_encode_like_the_full_frame(left: int, top: int, fill: bool) -> None:
    assert_encodes_like_the_full_frame(np.full((4, 5), fill), left, top, height=6, width=8)


def test_full_height_columns_are_one_run() -> None:
    bits = np.ones((6, 3), dtype=bool)
    assert_encodes_like_the_full_frame(bits, 2, 0, height=6, width=8)
    encoded = encode_rle_crop(bits, left=2, top=0, height=6, width=8)
    runs = mask_api.frPyObjects({"size": [6, 8], "counts": [12, 18, 18]}, 6, 8)
    assert encoded["counts"] == runs["counts"].decode("ascii")


def test_a_run_over_the_bottom_into_the_next_column_merges() -> None:
    bits = np.zeros((6, 2), dtype=bool)
    bits[4:, 0] = bits[:2, 1] = True
    assert_encodes_like_the_full_frame(bits, 3, 0, height=6, width=8)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 3)])
def test_a_crop_without_foreground_is_an_empty_mask(shape: tuple[int, int]) -> None:
    assert_encodes_like_the_full_frame(np.zeros(shape, dtype=bool), 1, 1, height=6, width=8)


@pytest.mark.parametrize("value", [False, True])
def test_an_image_of_one_pixel_encodes(value: bool) -> None:
    assert_encodes_like_the_full_frame(np.array([[value]]), 0, 0, height=1, width=1)


@pytest.mark.parametrize("value", [False, True])
def test_a_crop_of_the_full_frame_encodes(value: bool) -> None:
    assert_encodes_like_the_full_frame(np.full((6, 8), value), 0, 0, height=6, width=8)


def test_a_crop_in_a_huge_frame_does_not_overflow() -> None:
    height = width = 50_000  # more than 2^31 pixels
    encoded = encode_rle_crop(
        np.ones((2, 1), dtype=bool), left=width - 1, top=height - 2, height=height, width=width
    )
    runs = [height * width - 2, 2]
    expected = mask_api.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    assert encoded["counts"] == expected["counts"].decode("ascii")
