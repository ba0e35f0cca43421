"""ROIAlignRotated: the aligned RoIAlign at angle 0, and turned features at others."""

import math

import pytest
import torch
import torchvision.ops
from torch import Tensor

import models.layers.roi_align_rotated as roi_align_rotated
from models.layers import ROIAlignRotated


def random_features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_rois(number: int, images: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.tensor([0.0, -20.0, -20.0, 1.0, 1.0, -180.0])
    span = torch.tensor([0.0, 140.0, 140.0, 90.0, 90.0, 360.0])
    rois = low + span * torch.rand(number, 6, generator=generator)
    rois[:, 0] = torch.arange(number) % images
    return rois


def slow_sample(feature: Tensor, y: float, x: float) -> Tensor:
    """Bilinear value of (C, H, W) at a point, as RoIAlign defines it: (C,)."""
    height, width = feature.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return feature.new_zeros(len(feature))
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper = feature[:, top, left] * (1 - across) + feature[:, top, right] * across
    lower = feature[:, bottom, left] * (1 - across) + feature[:, bottom, right] * across
    return upper * (1 - down) + lower * down


def slow_pool(
    features: Tensor, rois: Tensor, size: tuple[int, int], scale: float, ratio: int
) -> Tensor:
    pooled = features.new_zeros(len(rois), features.shape[1], *size)
    for m, (image, x, y, w, h, angle) in enumerate(rois.tolist()):
        x, y, w, h = x * scale - 0.5, y * scale - 0.5, w * scale, h * scale
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        rows, columns = ratio or math.ceil(h / size[0]), ratio or math.ceil(w / size[1])
        for i in range(size[0] * rows):
            for j in range(size[1] * columns):
                v = h * ((i + 0.5) / (size[0] * rows) - 0.5)
                u = w * ((j + 0.5) / (size[1] * columns) - 0.5)
                value = slow_sample(
                    features[int(image)], y + v * cos - u * sin, x + v * sin + u * cos
                )
                pooled[m, :, i // rows, j // columns] += value / (rows * columns)
    return pooled


@pytest.mark.parametrize("ratio", [0, 2])
def test_it_agrees_with_the_definition(ratio: int) -> None:
    features, rois = random_features(2, 3, 14, 12), random_rois(12, images=2)
    ours = ROIAlignRotated((3, 2), 0.125, ratio)(features, rois)
    expected = slow_pool(features, rois, (3, 2), 0.125, ratio)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("ratio", [0, 1, 3])
def test_at_angle_0_it_is_the_aligned_roi_align(ratio: int) -> None:
    features, rois = random_features(2, 5, 30, 26), random_rois(40, images=2)
    rois[:, 5] = 0
    half = rois[:, 3:5] / 2
    upright = torch.cat((rois[:, :1], rois[:, 1:3] - half, rois[:, 1:3] + half), dim=1)
    expected = torchvision.ops.roi_align(features, upright, (7, 5), 0.25, ratio, aligned=True)
    ours = ROIAlignRotated((7, 5), 0.25, ratio)(features, rois)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("quarter_turns", [1, 2, 3, -1])
def test_quarter_turns_give_the_turned_feature(quarter_turns: int) -> None:
    features = random_features(1, 4, 16, 16)
    upright = torch.tensor([[0.0, 8.0, 8.0, 10.0, 6.0, 0.0]])
    turned = upright + torch.tensor([0, 0, 0, 0, 0, 90.0 * quarter_turns])
    pooler = ROIAlignRotated((3, 5), 1.0, 2)
    # A box that is turned counter-clockwise sees in its own frame what turned clockwise is.
    expected = pooler(torch.rot90(features, -quarter_turns, dims=(2, 3)), upright)
    torch.testing.assert_close(pooler(features, turned), expected, atol=1e-5, rtol=0)


def test_parts_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    features, rois = random_features(2, 3, 20, 20), random_rois(30, images=2)
    pooler = ROIAlignRotated((4, 4), 0.25, 0)
    whole = pooler(features, rois)
    monkeypatch.setattr(roi_align_rotated, "SAMPLES_PER_STEP", 100)
    assert torch.equal(pooler(features, rois), whole)


def test_a_region_does_not_depend_on_the_others() -> None:
    features, rois = random_features(2, 3, 20, 20), random_rois(10, images=2)
    pooler = ROIAlignRotated((4, 4), 0.25, 0)
    assert torch.equal(pooler(features, rois)[6:7], pooler(features, rois[6:7]))


def test_regions_outside_or_without_sides_are_zero() -> None:
    features = torch.ones(1, 2, 8, 8)
    rois = torch.tensor([[0, 400.0, 4, 4, 4, 30], [0, 4, 4, 0, 4, 30], [0, 4, 4, 4, 0, 30]])
    assert (ROIAlignRotated((2, 2), 1.0, 0)(features, rois) == 0).all()


@pytest.mark.parametrize("ratio", [0, 2])
def test_a_broken_region_is_zero_and_harms_no_other(ratio: int) -> None:
    features = torch.ones(1, 2, 8, 8)
    nan, inf = torch.nan, torch.inf
    broken = [[0, nan, 4, 4, 4, 30], [0, inf, 4, 4, 4, 0], [0, 4, 4, 4, 4, nan]]
    broken += [[0, 4, 4, nan, 4, 0], [0, 4, 4, inf, 4, 0]]
    rois = torch.tensor([*broken, [0, 4, 4, 4, 4, 30]])
    pooled = ROIAlignRotated((2, 2), 1.0, ratio)(features, rois)
    assert (pooled[:-1] == 0).all()
    torch.testing.assert_close(pooled[-1], torch.ones(2, 2, 2))


def test_no_regions() -> None:
    pooled = ROIAlignRotated((7, 5), 0.25, 0)(random_features(1, 3, 8, 8), torch.zeros(0, 6))
    assert pooled.shape == (0, 3, 7, 5)


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 5\)"):
        ROIAlignRotated((7, 7), 0.25, 0)(random_features(1, 3, 8, 8), torch.zeros(2, 5))


def test_gradients_reach_the_features() -> None:
    features = random_features(2, 2, 6, 5).double().requires_grad_()
    rois = random_rois(3, images=2)
    pooler = ROIAlignRotated((2, 2), 0.1, 0)
    assert torch.autograd.gradcheck(lambda x: pooler(x, rois), (features,))


def test_it_prints_its_settings() -> None:
    assert "output_size=(7, 7)" in repr(ROIAlignRotated((7, 7), 0.25, 0))
