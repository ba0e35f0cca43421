"""decode_rle: what pycocotools reads, without it."""

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.client.rle import decode_rle, rle_area

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40))


def encoded(mask: np.ndarray) -> dict:
    rle = pycocotools.mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


@given(mask=MASKS)
def test_any_mask_comes_back(mask: np.ndarray) -> None:
    rle = encoded(mask)
    decoded = decode_rle(rle)
    assert decoded.dtype == np.bool_
    assert np.array_equal(decoded, mask)
    assert rle_area(rle) == mask.sum()


@given(start=st.integers(0, 3_000_000), length=st.integers(0, 3_000_000))
def test_long_runs_take_several_characters(start: int, length: int) -> None:
    flat = np.zeros(3000 * 2000, dtype=np.bool_)
    flat[start : start + length] = True
    mask = flat.reshape(2000, 3000).T
    assert np.array_equal(decode_rle(encoded(mask)), mask)


@pytest.mark.parametrize("value", [False, True])
def test_an_empty_and_a_full_mask(value: bool) -> None:
    mask = np.full((5, 7), value)
    assert np.array_equal(decode_rle(encoded(mask)), mask)


def test_bytes_are_taken_as_pycocotools_has_them() -> None:
    rle = pycocotools.mask.encode(np.eye(4, dtype=np.uint8, order="F"))
    assert np.array_equal(decode_rle(rle), np.eye(4, dtype=bool))


@pytest.mark.parametrize(
    "counts",
    ["", "1", "\x01", "o", "P" * 20 + "0", "O0", "~~~", "oooooooo0oooooooo0", "é"],
    ids=[
        "empty",
        "too short",
        "below",
        "unfinished",
        "61 bits",
        "negative",
        "above",
        "huge",
        "text",
    ],
)
def test_what_is_no_mask_is_refused(counts: str) -> None:
    with pytest.raises(ValueError, match=r"mask|ascii"):
        decode_rle({"size": [4, 4], "counts": counts})
