"""Label Studio's brush encoding, against golden bytes and a decoder written from its description."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from service.label_studio.brush import encode_brush

GOLDEN = np.array([[0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=bool)


def encode(mask: NDArray[np.bool_]) -> list[int]:
    """A mask as a crop of all of it."""
    return encode_brush(mask, left=0, top=0, height=mask.shape[0], width=mask.shape[1])


def decode(data: list[int], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The (H, W, 4) values of rle-pack's stream of bits."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def read(number: int) -> int:
        nonlocal place
        place += number
        return int(bits[place - number : place], 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        is_run = read(1)
        length = read(sizes[read(2)]) + 1
        values += [read(word)] * length if is_run else [read(word) for _ in range(length)]
    assert len(values) == total
    assert len(data) - place // 8 <= 1
    return np.array(values, dtype=np.uint8).reshape(*shape, 4)


def test_the_golden_mask_has_its_golden_bytes() -> None:
    assert encode(GOLDEN) == [
        0, 0, 0, 48, 57, 27, 252, 224, 17, 255, 206, 1, 63, 253, 176, 9, 255, 192,
    ]  # fmt: skip


def test_a_crop_is_encoded_as_the_frame_around_it() -> None:
    frame = np.zeros((9, 11), dtype=bool)
    frame[2:5, 6:10] = GOLDEN
    assert encode_brush(GOLDEN, left=6, top=2, height=9, width=11) == encode(frame)


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_any_mask_comes_back(mask: NDArray[np.bool_]) -> None:
    decoded = decode(encode(mask), mask.shape)
    assert (decoded == (mask * np.uint8(255))[:, :, None]).all()


@given(st.integers(1, 300), st.integers(1, 300), st.booleans())
def test_a_picture_of_one_value_comes_back(height: int, width: int, value: bool) -> None:
    """Its run is longer than a length can tell from 16 384 pixels on."""
    mask = np.full((height, width), value)
    assert (decode(encode(mask), mask.shape) == value * 255).all()


def test_a_stream_that_ends_with_a_byte_gets_one_more_as_the_reference_writes_it() -> None:
    # 53 bits of head and one run of 19 bits make 9 bytes.
    [*body, last] = encode(np.ones((8, 8), dtype=bool))
    assert len(body) == 9
    assert last == 0
