"""Sizes and windows that pictures are resized and cut to."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from models.training.data.geometric_transforms import (
    PADDING_LEVEL,
    FixedSizeCrop,
    RandomCrop,
    ResizeShortestEdge,
    ScaleJitter,
    resize_nearest,
)


@pytest.fixture(autouse=True)
def _fixed_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def grey(height: int, width: int) -> tv_tensors.Image:
    return tv_tensors.Image(torch.full((3, height, width), 9, dtype=torch.uint8))


def test_choice_draws_each_size() -> None:
    resize = ResizeShortestEdge((10, 20, 30), 1000)
    heights = Counter(resize(grey(40, 80)).shape[1] for _ in range(300))
    assert sorted(heights) == [10, 20, 30]
    assert min(heights.values()) > 70


def test_range_draws_all_sizes_between_both_ends() -> None:
    resize = ResizeShortestEdge((10, 14), 1000, is_range=True)
    assert {resize(grey(40, 80)).shape[1] for _ in range(100)} == {10, 11, 12, 13, 14}


def test_the_longer_side_keeps_to_its_limit() -> None:
    assert ResizeShortestEdge((100,), 150)(grey(50, 100)).shape == (3, 75, 150)


def test_size_0_is_no_resize() -> None:
    assert ResizeShortestEdge((0,), 10)(grey(50, 100)).shape == (3, 50, 100)


def test_pictures_are_antialiased_nearly_as_by_pillow() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    resized = ResizeShortestEdge((40,), 1000)(
        tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
    )
    expected = np.asarray(
        Image.fromarray(pixels).resize((53, 40), Image.Resampling.BILINEAR), dtype=np.int16
    )
    assert np.abs(resized.permute(1, 2, 0).numpy() - expected).max() <= 1


@pytest.mark.parametrize("size", [(7, 9), (64, 50), (33, 41), (1, 1)])
def test_the_nearest_pixel_is_pillows(size: tuple[int, int]) -> None:
    values = np.random.default_rng(1).integers(0, 256, (33, 41), dtype=np.uint8)
    expected = Image.fromarray(values).resize(size[::-1], Image.Resampling.NEAREST)
    found = resize_nearest(torch.from_numpy(values)[None], *size)
    assert np.array_equal(found[0].numpy(), np.asarray(expected))


def test_no_masks_are_resized_to_none() -> None:
    assert resize_nearest(torch.empty(0, 5, 6, dtype=torch.uint8), 10, 12).shape == (0, 10, 12)


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [
        ("relative", (0.5, 0.25), {(50, 50)}),
        ("relative", (0.001, 1.0), {(1, 200)}),
        ("absolute", (30, 40), {(30, 40)}),
        ("absolute", (300, 400), {(100, 200)}),
    ],
)
def test_windows_of_fixed_size(
    kind: str, size: tuple[float, float], expected: set[tuple[int, int]]
) -> None:
    crop = RandomCrop(kind, size)
    assert {tuple(crop(grey(100, 200)).shape[1:]) for _ in range(20)} == expected


def test_relative_range_draws_from_its_parts_to_the_whole() -> None:
    crop = RandomCrop("relative_range", (0.5, 0.9))
    sizes = np.array([crop(grey(100, 200)).shape[1:] for _ in range(300)])
    assert sizes.min(axis=0) == pytest.approx((50, 180), abs=3)
    assert sizes.max(axis=0) == pytest.approx((100, 200), abs=3)
    # Height and width are drawn apart.
    assert abs(np.corrcoef(sizes.T)[0, 1]) < 0.2


def test_absolute_range_keeps_to_the_picture() -> None:
    crop = RandomCrop("absolute_range", (80, 150))
    sizes = np.array([crop(grey(100, 200)).shape[1:] for _ in range(300)])
    assert sizes.min(axis=0).tolist() == [80, 80]
    assert sizes.max(axis=0).tolist() == [100, 150]


def test_windows_lie_anywhere() -> None:
    columns = torch.arange(8, dtype=torch.uint8).expand(1, 8, 8).contiguous()
    crop = RandomCrop("absolute", (2, 2))
    lefts = Counter(int(crop(tv_tensors.Image(columns))[0, 0, 0]) for _ in range(300))
    assert sorted(lefts) == list(range(7))


def test_scale_jitter_keeps_proportions_between_its_factors() -> None:
    jitter = ScaleJitter((100, 100), (0.5, 2.0))
    sizes = np.array([jitter(grey(50, 100)).shape[1:] for _ in range(300)])
    assert sizes[:, 1].min() == pytest.approx(50, abs=4)
    assert sizes[:, 1].max() == pytest.approx(200, abs=4)
    assert np.abs(sizes[:, 1] - 2 * sizes[:, 0]).max() <= 1


def test_no_side_vanishes() -> None:
    assert ScaleJitter((20, 20), (0.1, 0.1))(grey(1, 100)).shape == (3, 1, 2)


def test_what_is_missing_is_added_at_the_right_and_the_bottom() -> None:
    sample = {
        "image": grey(4, 10),
        "mask": tv_tensors.Mask(torch.ones(1, 4, 10, dtype=torch.uint8)),
    }
    found = FixedSizeCrop((6, 8))(sample)
    assert found["image"].shape == (3, 6, 8)
    assert found["image"][:, :4].unique().tolist() == [9]
    assert found["image"][:, 4:].unique().tolist() == [PADDING_LEVEL]
    assert found["mask"][0].sum(dim=1).tolist() == [8, 8, 8, 8, 0, 0]
