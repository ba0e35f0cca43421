"""Pasting soft masks: the crop around a box holds all that pasting the full frame would give."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers import paste_mask_crop, paste_masks_in_image

SIZE = (30, 40)


def paste_full_frame(mask: Tensor, box: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Sample the mask at every pixel centre of the image; zero outside of it."""
    height, width = size
    x1, y1, x2, y2 = box
    ys = (torch.arange(height) + 0.5 - y1) / (y2 - y1) * 2 - 1
    xs = (torch.arange(width) + 0.5 - x1) / (x2 - x1) * 2 - 1
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
    grid = torch.stack((grid_x, grid_y), dim=-1)[None]
    return F.grid_sample(mask[None, None], grid, align_corners=False)[0, 0] >= threshold


def in_frame(crop: tuple[int, int, Tensor], size: tuple[int, int]) -> Tensor:
    left, top, bits = crop
    frame = torch.zeros(size, dtype=torch.bool)
    frame[top : top + bits.shape[0], left : left + bits.shape[1]] = bits
    return frame


def random_boxes(kind: str, count: int) -> Tensor:
    """Boxes whose centre lies in the image, by the range of their sides."""
    low, high = {"ordinary": (2, 30), "tiny": (0.01, 1.5), "huge": (100, 5000)}[kind]
    generator = torch.Generator().manual_seed(0)
    centers = torch.rand(count, 2, generator=generator) * torch.tensor([SIZE[1], SIZE[0]])
    sides = low + torch.rand(count, 2, generator=generator) * (high - low)
    return torch.cat((centers - sides / 2, centers + sides / 2), dim=1)


@pytest.mark.parametrize("solid", [False, True], ids=["soft", "all ones"])
@pytest.mark.parametrize("kind", ["ordinary", "tiny", "huge"])
def test_a_crop_equals_the_full_frame_and_misses_nothing(kind: str, solid: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    for box in random_boxes(kind, 60):
        mask = torch.ones(28, 28) if solid else torch.rand(28, 28, generator=generator)
        crop = paste_mask_crop(mask, box, SIZE)
        assert torch.equal(in_frame(crop, SIZE), paste_full_frame(mask, box, SIZE, 0.5))


def test_a_crop_is_one_pixel_wider_than_the_box_and_clipped_to_the_image() -> None:
    left, top, bits = paste_mask_crop(torch.ones(4, 4), torch.tensor([5.5, 0.5, 9.5, 7.0]), SIZE)
    assert (left, top) == (4, 0)
    assert bits.shape == (8, 7)
    assert bits.dtype == torch.bool


def test_a_probability_equal_to_the_threshold_is_foreground() -> None:
    mask, box = torch.full((4, 4), 0.5), torch.tensor([4.0, 4.0, 8.0, 8.0])
    assert in_frame(paste_mask_crop(mask, box, SIZE), SIZE)[4:8, 4:8].all()
    assert not paste_mask_crop(mask, box, SIZE, threshold=0.51)[2].any()


@pytest.mark.parametrize(
    "box", [[50, 5, 60, 9], [-20, 5, -10, 9], [5, 60, 9, 70], [5, -20, 9, -10], [90, 90, 95, 95]]
)
def test_a_box_outside_of_the_image_has_an_empty_crop(box: list[float]) -> None:
    left, top, bits = paste_mask_crop(torch.ones(4, 4), torch.tensor(box).float(), SIZE)
    assert 0 <= left <= SIZE[1]
    assert 0 <= top <= SIZE[0]
    assert bits.numel() == 0


def test_half_precision_masks_are_sampled_in_float32() -> None:
    box = torch.tensor([3.3, 4.4, 21.7, 25.2])
    mask = torch.rand(28, 28, generator=torch.Generator().manual_seed(2)).half()
    expected = paste_full_frame(mask.float(), box, SIZE, 0.5)
    assert torch.equal(in_frame(paste_mask_crop(mask, box, SIZE), SIZE), expected)


def test_full_frames_are_the_crops_in_place() -> None:
    boxes = random_boxes("ordinary", 5)
    masks = torch.rand(5, 28, 28, generator=torch.Generator().manual_seed(3))
    frames = paste_masks_in_image(masks, boxes, SIZE)
    for frame, mask, box in zip(frames, masks, boxes, strict=True):
        assert torch.equal(frame, in_frame(paste_mask_crop(mask, box, SIZE), SIZE))


def test_no_masks_give_no_frames() -> None:
    frames = paste_masks_in_image(torch.zeros(0, 28, 28), torch.zeros(0, 4), SIZE)
    assert frames.shape == (0, *SIZE)
    assert frames.dtype == torch.bool
