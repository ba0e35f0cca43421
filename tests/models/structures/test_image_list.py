"""ImageList: images of different sizes in one padded tensor."""

import pytest
import torch

from models.structures import ImageList


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


def test_images_are_padded_with_zeros_at_the_bottom_and_the_right() -> None:
    batch = ImageList.from_tensors([ones(3, 2, 5), ones(3, 4, 3)])
    assert batch.tensor.shape == (2, 3, 4, 5)
    assert batch.tensor[0, 0].tolist() == [[1] * 5, [1] * 5, [0] * 5, [0] * 5]
    assert batch.tensor[1, 0].tolist() == [[1, 1, 1, 0, 0]] * 4


def test_sizes_are_those_without_padding() -> None:
    batch = ImageList.from_tensors([ones(3, 2, 5), ones(3, 4, 3)], 32)
    assert batch.image_sizes == [(2, 5), (4, 3)]
    assert len(batch) == 2


@pytest.mark.parametrize(
    ("divisibility", "size", "padded"),
    [
        (0, (5, 7), (5, 7)),
        (1, (5, 7), (5, 7)),
        (32, (5, 7), (32, 32)),
        (32, (32, 64), (32, 64)),
        (32, (33, 65), (64, 96)),
    ],
)
def test_sides_are_rounded_up(
    divisibility: int, size: tuple[int, int], padded: tuple[int, int]
) -> None:
    batch = ImageList.from_tensors([ones(1, *size)], divisibility)
    assert batch.tensor.shape[-2:] == padded
    assert ImageList.padded_size([size], divisibility) == padded


def test_the_padding_value_can_be_chosen() -> None:
    batch = ImageList.from_tensors([ones(1, 1, 1)], 2, pad_value=7.0)
    assert batch.tensor.tolist() == [[[[1, 7], [7, 7]]]]


def test_an_item_is_the_image_without_padding() -> None:
    image = torch.rand(3, 2, 5)
    batch = ImageList.from_tensors([image, ones(3, 4, 3)], 32)
    assert torch.equal(batch[0], image)


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        ImageList.from_tensors([])


def test_to_moves_the_tensor_and_keeps_the_sizes() -> None:
    moved = ImageList.from_tensors([ones(3, 2, 5)]).to("meta")
    assert moved.device.type == "meta"
    assert moved.image_sizes == [(2, 5)]
