"""What an image costs in a batch, alone and with the views of test-time augmentation."""

from dataclasses import replace

import torch

from service.inference.detector import PreparedImage


def prepared(*view_sizes: tuple[int, int]) -> PreparedImage:
    return PreparedImage(
        tensor=torch.zeros(3, 50, 60, dtype=torch.uint8),
        height=100,
        width=120,
        padded_size=(64, 64),
        recipe="rgb",
        views=tuple({"image": torch.zeros(3, *size, dtype=torch.uint8)} for size in view_sizes),
    )


def test_an_image_takes_its_padded_size() -> None:
    assert prepared().padded_pixels == 64 * 64


def test_an_image_with_views_takes_those_of_all_of_them() -> None:
    assert prepared((10, 20), (10, 20), (30, 40)).padded_pixels == 2 * 200 + 1200


def test_the_bytes_are_those_of_the_image_and_its_views() -> None:
    assert prepared().nbytes == 3 * 50 * 60
    assert prepared((10, 20), (30, 40)).nbytes == 3 * (50 * 60 + 200 + 1200)


def test_the_size_is_that_behind_the_resize() -> None:
    assert prepared().size == (50, 60)
    assert replace(prepared(), resize_to=(25, 30)).size == (25, 30)
