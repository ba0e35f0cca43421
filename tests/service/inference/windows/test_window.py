"""Regions of a picture: clipped, widened to whole pixels, and refused when they hold nothing."""

import numpy as np
import pytest

from service.errors import Unprocessable
from service.inference.windows.window import Window, region_of


def test_without_a_region_it_is_the_whole_picture() -> None:
    assert region_of(None, 20, 30) == Window(0, 0, 30, 20)


@pytest.mark.parametrize(
    ("region", "window"),
    [
        ((1.0, 2.0, 11.0, 12.0), Window(1, 2, 11, 12)),
        ((1.9, 2.1, 10.1, 11.9), Window(1, 2, 11, 12)),
        ((-50.0, -1.0, 5.0, 1e9), Window(0, 0, 5, 20)),
        ((29.5, 19.5, 29.6, 19.6), Window(29, 19, 30, 20)),
    ],
)
def test_a_region_is_clipped_and_widened_to_whole_pixels(
    region: tuple[float, float, float, float], window: Window
) -> None:
    assert region_of(region, 20, 30) == window


@pytest.mark.parametrize("region", [(30.0, 0.0, 40.0, 20.0), (-9.0, -9.0, -0.5, -0.5)])
def test_a_region_outside_of_the_picture_is_refused(
    region: tuple[float, float, float, float],
) -> None:
    with pytest.raises(Unprocessable) as caught:
        region_of(region, 20, 30)
    assert caught.value.code == "region_outside"
    assert (caught.value.details["width"], caught.value.details["height"]) == (30, 20)


def test_a_crop_is_a_copy_and_the_whole_is_not() -> None:
    pixels = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    crop = Window(4, 5, 10, 8).crop(pixels)
    assert np.array_equal(crop, pixels[5:8, 4:10])
    assert crop.base is None
    assert Window.whole(20, 30).crop(pixels) is pixels


def test_proposals_are_those_that_it_shows() -> None:
    boxes = np.array([[5, 5, 15, 15], [0, 0, 12, 12], [30, 30, 40, 40]], dtype=np.float32)
    shown = Window(10, 10, 20, 20).proposals(boxes)
    assert shown is not None
    assert shown.tolist() == [[0, 0, 5, 5], [0, 0, 2, 2]]
    assert Window(50, 50, 60, 60).proposals(boxes).shape == (0, 4)  # type: ignore[union-attr]  # boxes
    assert Window(0, 0, 9, 9).proposals(None) is None
