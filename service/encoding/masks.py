"""The forms in which an answer gives the masks of instances."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import numpy as np

from models.structures.rle import RLE
from service.encoding.mask_runs import MaskRuns
from service.encoding.png import encode_grey_png
from service.encoding.polygons import encode_polygons

MaskForm = Literal["rle", "polygon", "png", "bitmap", "none"]


class MaskPng(TypedDict):
    """A mask as a picture of the smallest crop that holds it.

    ``offset`` is [x, y] of the crop's corner; ``png`` is base64 of a grey PNG with one bit a pixel, white
    is the mask. An empty mask is one black pixel.
    """

    offset: list[int]
    png: str


class MaskBitmap(TypedDict):
    """A mask as the bits of the smallest crop that holds it.

    ``offset`` is [x, y] of the crop's corner, ``size`` its [height, width]; ``bits`` is base64 of its rows,
    a bit a pixel, the leftmost pixel in the highest bit, each row filled up to whole bytes. An empty
    mask has the size [0, 0] and no bits.
    """

    offset: list[int]
    size: list[int]
    bits: str


def encode_masks(masks: Sequence[RLE], size: tuple[int, int], form: MaskForm) -> list[Any]:
    """Masks of one picture in another form.

    Args:
        masks: in COCO's run-length encoding, as :mod:`models.structures.rle` makes it.
        size: (height, width) of the picture.
        form: not "none".

    Returns:
        As many as there are masks: :class:`RLE`, lists of :class:`service.encoding.polygons.Polygon`,
        :class:`MaskPng` or :class:`MaskBitmap`.
    """
    if form == "polygon":
        return encode_polygons(masks, size)
    if form == "png":
        return _pngs(MaskRuns.of(masks, size))
    if form == "bitmap":
        return _bitmaps(MaskRuns.of(masks, size))
    return list(masks)


def _pngs(runs: MaskRuns) -> list[MaskPng]:
    answer: list[MaskPng] = []
    for left, top, crop in runs.crops():
        bits = crop if crop.size else np.zeros((1, 1), dtype=bool)
        file = encode_grey_png(np.packbits(bits, axis=1), width=bits.shape[1], depth=1)
        answer.append({"offset": [left, top], "png": base64.b64encode(file).decode("ascii")})
    return answer


def _bitmaps(runs: MaskRuns) -> list[MaskBitmap]:
    answer: list[MaskBitmap] = []
    for left, top, bits in runs.crops():
        packed = base64.b64encode(np.packbits(bits, axis=1).tobytes()).decode("ascii")
        answer.append({"offset": [left, top], "size": list(bits.shape), "bits": packed})
    return answer
