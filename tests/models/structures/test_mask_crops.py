"""Crops of masks as matrix products, against RoIAlign's own kernel."""

import pytest
import torch
import torchvision.ops

from models.structures.mask_crops import crop_masks

HEIGHT, WIDTH = 60, 90


def frames(number: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(number, HEIGHT // 6, WIDTH // 6, generator=generator) > 0.5
    return coarse.repeat_interleave(6, dim=1).repeat_interleave(6, dim=2)


def by_kernel(masks: torch.Tensor, index: torch.Tensor, boxes: torch.Tensor, size: int):
    rois = torch.cat((index[:, None].float(), boxes), dim=1)
    return torchvision.ops.roi_align(masks[:, None].float(), rois, size, 1.0, 0, True)[:, 0]


def random_boxes(number: int, low: float, high: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(number, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT]) - low / 2
    return torch.cat(
        (corner, corner + low + torch.rand(number, 2, generator=generator) * (high - low)), dim=1
    )


@pytest.mark.parametrize(("low", "high"), [(0.5, 6.0), (6.0, 40.0), (40.0, 120.0)])
@pytest.mark.parametrize("size", [1, 7, 28])
def test_every_share_equals_that_of_the_kernel(low: float, high: float, size: int) -> None:
    boxes = random_boxes(40, low, high)
    index = torch.arange(40) % 3
    ours = crop_masks(frames(), index, boxes, size)
    torch.testing.assert_close(ours, by_kernel(frames(), index, boxes, size), atol=2e-6, rtol=0)


def test_whole_pixels_decide_alike_at_exactly_one_half() -> None:
    boxes = random_boxes(60, 20.0, 84.0).round()
    index = torch.arange(60) % 3
    ours, expected = (crop(frames(), index, boxes, 14) >= 0.5 for crop in (crop_masks, by_kernel))
    assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    "box",
    [
        [5.0, 5.0, 5.0, 5.0],  # a point
        [5.0, 5.0, 4.0, 20.0],  # its right before its left
        [-40.0, -40.0, -10.0, -10.0],  # outside
        [200.0, 10.0, 240.0, 30.0],
        [-30.0, -30.0, 200.0, 200.0],  # larger than the image
    ],
)
def test_strange_boxes_give_what_the_kernel_gives(box: list[float]) -> None:
    boxes, index = torch.tensor([box, [3.0, 4.0, 20.0, 30.0]]), torch.tensor([1, 1])
    ours = crop_masks(frames(), index, boxes, 7)
    torch.testing.assert_close(ours, by_kernel(frames(), index, boxes, 7), atol=2e-6, rtol=0)


def test_no_boxes_have_no_crops() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    assert crop_masks(frames(), nothing, torch.zeros(0, 4), 28).shape == (0, 28, 28)
    assert crop_masks(frames()[:0], nothing, torch.zeros(0, 4), 28).shape == (0, 28, 28)
