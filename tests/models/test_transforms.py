"""The resize in front of a detector: sizes, rounding, Pillow's pixels and nearly those."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from models.transforms import resize_image, resize_image_fast, resized_size


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "min_size", "max_size", "expected"),
    [
        pytest.param((480, 640), 800, 1333, (800, 1067), id="landscape"),
        pytest.param((640, 480), 800, 1333, (1067, 800), id="portrait"),
        pytest.param((500, 500), 800, 1333, (800, 800), id="square"),
        pytest.param((1000, 3000), 800, 1333, (444, 1333), id="the longer side is capped"),
        pytest.param((3000, 1000), 800, 1333, (1333, 444), id="capped portrait"),
        pytest.param((600, 1000), 800, 1333, (800, 1333), id="just under the cap"),
        pytest.param((2000, 3000), 800, 1333, (800, 1200), id="down-scaling"),
        pytest.param((2, 3), 3, 100, (3, 5), id="4.5 is rounded up"),
        pytest.param((2, 5), 3, 100, (3, 8), id="7.5 is rounded up"),
        pytest.param((3, 10), 4, 100, (4, 13), id="13.33 is rounded down"),
        pytest.param((100, 300), 100, 249, (83, 249), id="both sides shrink with the cap"),
        pytest.param((1, 10_000), 800, 1333, (1, 1333), id="no side vanishes"),
    ],
)
def test_the_shorter_side_is_exact_and_the_longer_rounded(
    size: tuple[int, int], min_size: int, max_size: int, expected: tuple[int, int]
) -> None:
    assert resized_size(*size, min_size, max_size) == expected


def test_min_size_0_is_no_resize_even_over_the_cap() -> None:
    assert resized_size(5000, 4000, 0, 1333) == (5000, 4000)


@pytest.mark.parametrize("size", [(20, 30), (97, 61), (200, 111), (1, 1)])
def test_pixels_are_pillows_bilinear(size: tuple[int, int]) -> None:
    image = picture(64, 80)
    expected = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(resize_image(image, *size), np.asarray(expected))


def test_a_picture_of_the_right_size_is_returned_as_it_is() -> None:
    image = picture(20, 30)
    assert resize_image(image, 20, 30) is image


def test_reversing_the_channels_commutes_with_the_resize() -> None:
    image = picture(64, 80)
    resized = resize_image(image, 40, 50)
    assert np.array_equal(resize_image(image[:, :, ::-1], 40, 50), resized[:, :, ::-1])


def smooth_picture(height: int, width: int) -> np.ndarray:
    """Something like a photograph: shades over many pixels and a little noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 20 + 1, width // 20 + 1, 3), dtype=np.uint8)
    large = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(large).astype(int) + rng.integers(-4, 5, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(300, 400), (200, 267), (97, 61), (800, 1067), (1, 1)])
@pytest.mark.parametrize(
    ("make", "share"), [(picture, 0.02), (smooth_picture, 0.005)], ids=["noise", "smooth"]
)
def test_the_fast_resize_is_at_most_one_grey_level_off_in_few_bytes(
    make: Callable[[int, int], np.ndarray], share: float, size: tuple[int, int]
) -> None:
    image = make(480, 640)
    exact = resize_image(image, *size).astype(int)
    fast = resize_image_fast(image, *size)
    assert (fast.shape, fast.dtype) == ((*size, 3), np.uint8)
    assert np.abs(exact - fast).max() <= 1
    assert (exact != fast).mean() < share


def test_the_fast_resize_takes_any_view_and_changes_no_picture() -> None:
    image = picture(64, 80)
    before = image.copy()
    expected = resize_image_fast(image, 40, 50)
    image.flags.writeable = False
    assert np.array_equal(resize_image_fast(image, 40, 50), expected)
    wide = np.repeat(image, 2, axis=1)
    assert np.array_equal(resize_image_fast(wide[:, ::2], 40, 50), expected)
    assert np.array_equal(resize_image_fast(image[:, :, ::-1], 40, 50), expected[:, :, ::-1])
    assert np.array_equal(image, before)


def test_the_fast_resize_returns_a_picture_of_the_right_size_as_it_is() -> None:
    image = picture(20, 30)
    assert resize_image_fast(image, 20, 30) is image
