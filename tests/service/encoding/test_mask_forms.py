"""Every form of a mask decodes to the same mask."""

import base64
from typing import get_args

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_decoding import Bits, decoded, iou
from pycocotools import mask as coco

from models.structures.rle import RLE
from service.encoding.mask_runs import MaskRuns
from service.encoding.masks import MaskForm, encode_masks

FORMS = [form for form in get_args(MaskForm) if form != "none"]
STACKS = st.tuples(st.integers(0, 4), st.integers(1, 19), st.integers(1, 19)).flatmap(
    lambda shape: arrays.arrays(np.bool_, shape)
)


def rle(bits: Bits) -> RLE:
    encoded = coco.encode(np.asfortranarray(bits.astype(np.uint8)))
    return {"size": list(bits.shape), "counts": encoded["counts"].decode()}


@pytest.mark.parametrize("form", ["rle", "png", "bitmap"])
@given(STACKS)
@settings(max_examples=80, deadline=None)
def test_masks_come_back(form: MaskForm, stack: Bits) -> None:
    size = stack.shape[1], stack.shape[2]
    answer = encode_masks([rle(bits) for bits in stack], size, form)
    assert len(answer) == len(stack)
    for mask, bits in zip(answer, stack, strict=True):
        np.testing.assert_array_equal(decoded(mask, form, size), bits)


@given(STACKS)
@settings(max_examples=80, deadline=None)
def test_masks_come_back_as_polygons(stack: Bits) -> None:
    size = stack.shape[1], stack.shape[2]
    for mask, bits in zip(
        encode_masks([rle(b) for b in stack], size, "polygon"), stack, strict=True
    ):
        assert iou(decoded(mask, "polygon", size), bits) >= 0.97


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_of_a_large_picture_comes_back_in_every_form(form: MaskForm) -> None:
    y, x = np.mgrid[:1080, :1920]
    bits = (np.hypot(x - 900, (y - 500) * 1.5) < 400) & (np.hypot(x - 800, y - 500) > 90)
    [mask] = encode_masks([rle(bits)], (1080, 1920), form)
    assert iou(decoded(mask, form, (1080, 1920)), bits) >= 0.97


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_mask_is_one_in_every_form(form: MaskForm) -> None:
    [mask] = encode_masks([rle(np.zeros((7, 9), dtype=bool))], (7, 9), form)
    assert not decoded(mask, form, (7, 9)).any()


def test_a_crop_is_no_larger_than_its_mask() -> None:
    bits = np.zeros((40, 50), dtype=bool)
    bits[10:13, 20:31] = True
    [bitmap] = encode_masks([rle(bits)], (40, 50), "bitmap")
    assert (bitmap["offset"], bitmap["size"]) == ([20, 10], [3, 11])
    [png] = encode_masks([rle(bits)], (40, 50), "png")
    assert png["offset"] == [20, 10]


def test_the_leftmost_pixel_of_a_bitmap_is_the_highest_bit_and_rows_end_on_bytes() -> None:
    bits = np.zeros((2, 10), dtype=bool)
    bits[0, [0, 9]] = bits[1, 1] = True
    [bitmap] = encode_masks([rle(bits)], (2, 10), "bitmap")
    assert base64.b64decode(bitmap["bits"]) == bytes([0b10000000, 0b01000000, 0b01000000, 0])


def test_runs_do_not_go_on_in_the_next_column() -> None:
    runs = MaskRuns.of([rle(np.ones((3, 4), dtype=bool))], (3, 4))
    assert runs.column.tolist() == [0, 1, 2, 3]
    assert runs.top.tolist() == [0] * 4
    assert runs.bottom.tolist() == [3] * 4
