"""Soft masks straight to RLE: the same as pasting each and encoding its pixels."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as mask_api
import pytest
import torch
from torch import Tensor

from models.layers import mask_runs, paste_mask_crop
from models.layers.mask_runs import encode_pasted_masks
from models.structures.rle import RLE

SIZE = (120, 160)


def by_pasting(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[RLE]:
    """Each mask pasted into a frame of its own and encoded by pycocotools."""
    answer: list[RLE] = []
    for mask, box in zip(masks, boxes, strict=True):
        frame = np.zeros(size, dtype=np.uint8, order="F")
        left, top, bits = paste_mask_crop(mask, box, size)
        frame[top : top + bits.shape[0], left : left + bits.shape[1]] = bits.numpy()
        counts = mask_api.encode(frame)["counts"].decode("ascii")
        answer.append({"size": list(size), "counts": counts})
    return answer


def boxes_of(low: float, high: float, count: int, seed: int = 0) -> Tensor:
    """Boxes with sides in a range, their centres in the image."""
    random = torch.Generator().manual_seed(seed)
    centers = torch.rand(count, 2, generator=random) * torch.tensor([SIZE[1], SIZE[0]])
    sides = low + torch.rand(count, 2, generator=random) * (high - low)
    return torch.cat((centers - sides / 2, centers + sides / 2), dim=1)


def blobs(count: int, side: int = 28, seed: int = 1) -> Tensor:
    """Smooth shapes, as mask heads give them."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 5, 5, generator=random) * 8 - 4
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return smooth[:, 0].sigmoid()


def noise(count: int, side: int = 28) -> Tensor:
    return torch.rand(count, side, side, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kind", ["blobs", "noise", "nearly the threshold"])
@pytest.mark.parametrize(
    ("low", "high"), [(2, 60), (0.01, 2), (100, 200), (500, 9000)], ids=lambda v: str(v)
)
def test_masks_are_those_that_pasting_gives(low: float, high: float, kind: str) -> None:
    masks = blobs(60) if kind == "blobs" else noise(60)
    if kind == "nearly the threshold":
        masks = 0.5 + (masks - 0.5) * 1e-5
    boxes = boxes_of(low, high, 60)
    assert encode_pasted_masks(masks, boxes, SIZE) == by_pasting(masks, boxes, SIZE)


@pytest.mark.parametrize("side", [1, 2, 7, 14, 56, 112])
def test_masks_of_any_side_are_pasted(side: int) -> None:
    masks, boxes = blobs(40, side), boxes_of(5, 150, 40)
    assert encode_pasted_masks(masks, boxes, SIZE) == by_pasting(masks, boxes, SIZE)


@pytest.mark.parametrize("value", [0.0, 0.25, 0.49999997, 0.5, 0.50000006, 0.75, 1.0])
def test_constant_masks_are_decided_as_by_pasting(value: float) -> None:
    masks, boxes = torch.full((30, 28, 28), value), boxes_of(3, 100, 30)
    assert encode_pasted_masks(masks, boxes, SIZE) == by_pasting(masks, boxes, SIZE)


def test_masks_of_zeros_and_ones_cross_the_threshold_half_way() -> None:
    masks = (noise(40) > 0.5).float()
    boxes = boxes_of(10, 100, 40).round()  # pixel centres then meet the mask's own over and over
    assert encode_pasted_masks(masks, boxes, SIZE) == by_pasting(masks, boxes, SIZE)


def test_pixels_on_the_threshold_are_sampled_and_not_guessed() -> None:
    # Boxes as large as the mask: every pixel's value is that of one element, give or take rounding.
    masks = torch.where(noise(20) > 0.5, 0.5, noise(20))
    corners = torch.rand(20, 2, generator=torch.Generator().manual_seed(3)).mul(90).floor()
    boxes = torch.cat((corners, corners + 28), dim=1)
    assert encode_pasted_masks(masks, boxes, SIZE) == by_pasting(masks, boxes, SIZE)


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 160, 120],
        [-0.0, 119.5, 160, 120],
        [-20, -20, 10, 10],
        [150, 110, 300, 300],
        [-500, 5, 700, 90],
        [5, -900, 90, 700],
    ],
)
def test_boxes_at_and_over_the_rim_are_cut(box: list[float]) -> None:
    masks, boxes = torch.cat((blobs(3), torch.ones(1, 28, 28))), torch.tensor([box] * 4).float()
    assert encode_pasted_masks(masks, boxes, SIZE) == by_pasting(masks, boxes, SIZE)


@pytest.mark.parametrize(
    "box", [[200, 5, 300, 9], [-90, 5, -10, 9], [5, 200, 9, 300], [5, -90, 9, -10]]
)
def test_a_box_outside_of_the_image_has_an_empty_mask(box: list[float]) -> None:
    [mask] = encode_pasted_masks(torch.ones(1, 28, 28), torch.tensor([box]).float(), SIZE)
    assert mask_api.area({"size": mask["size"], "counts": mask["counts"].encode()}) == 0


@pytest.mark.parametrize(
    ("box", "value"),
    [([5, 5, 5, 40], 1.0), ([5, 5, 40, 5], 1.0), ([40, 40, 5, 5], 1.0), ([5, 5, 40, 40], -3.0),
     ([5, 5, 40, 40], 7.0), ([5, 5, 40, 40], float("nan")), ([5, 5, 40, 40], float("inf"))],
)  # fmt: skip
def test_what_no_model_makes_is_pasted_in_the_midst_of_others(
    box: list[float], value: float
) -> None:
    masks, boxes = blobs(5), boxes_of(10, 60, 5)
    masks[2, 10:20] = value
    boxes[2] = torch.tensor(box)
    assert encode_pasted_masks(masks, boxes, SIZE) == by_pasting(masks, boxes, SIZE)


def test_masks_worked_on_in_portions_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, boxes = torch.cat((blobs(50), noise(10))), boxes_of(2, 150, 60)
    whole = encode_pasted_masks(masks, boxes, SIZE)
    monkeypatch.setattr(mask_runs, "_COLUMNS", 100)
    monkeypatch.setattr(mask_runs, "_SAMPLED_COLUMNS", 3)
    assert encode_pasted_masks(masks, boxes, SIZE) == whole


def test_half_precision_masks_are_read_as_float32() -> None:
    masks, boxes = blobs(20).half(), boxes_of(10, 60, 20)
    assert encode_pasted_masks(masks, boxes, SIZE) == by_pasting(masks.float(), boxes, SIZE)


def test_no_masks_are_an_empty_list() -> None:
    assert encode_pasted_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), SIZE) == []


def test_the_bound_on_rounding_holds_against_float64() -> None:
    """The error of grid_sample in float32, over masks and boxes, is below what is allowed for."""
    worst = 0.0
    for side in (2, 14, 28, 56):
        masks = (noise(30, side) > 0.5).float()
        for mask, box in zip(masks, boxes_of(1, 400, 30), strict=True):
            x = torch.arange(SIZE[1]) + 0.5
            y = torch.arange(SIZE[0]) + 0.5

            def sampled(kind: torch.dtype, mask=mask, box=box, x=x, y=y) -> Tensor:
                x1, y1, x2, y2 = box.to(kind)
                u = (x.to(kind) - x1) / (x2 - x1) * 2 - 1
                v = (y.to(kind) - y1) / (y2 - y1) * 2 - 1
                grid = torch.stack(torch.meshgrid(v, u, indexing="ij")[::-1], dim=-1)
                return torch.nn.functional.grid_sample(
                    mask[None, None].to(kind), grid[None], align_corners=False
                )

            error = (sampled(torch.float32).double() - sampled(torch.float64)).abs().max()
            worst = max(worst, float(error) / mask_runs._rounding_error(side))
    assert 0 < worst < 0.5
