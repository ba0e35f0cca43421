"""Every form of a mask back to pixels, written from its documentation and not from the encoder."""

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

Bits = NDArray[np.bool_]


def decoded(mask: Any, form: str, size: tuple[int, int]) -> Bits:
    """(H, W) bool: a mask of an answer with ``masks=form``, of a picture of ``size``."""
    if form == "rle":
        bits = coco.decode({"size": mask["size"], "counts": mask["counts"].encode()})
        return np.asarray(bits, dtype=bool)
    if form == "polygon":
        return of_polygons(mask, size)
    crop = _png_bits(mask["png"]) if form == "png" else _packed_bits(mask)
    frame = np.zeros(size, dtype=bool)
    x, y = mask["offset"]
    frame[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return frame


def of_polygons(polygons: Sequence[Any], size: tuple[int, int]) -> Bits:
    """Pixels whose centres lie inside of an odd number of rings, which may touch or cross each other."""
    flips = np.zeros((size[0], size[1] + 1), dtype=bool)
    for polygon in polygons:
        for ring in (polygon["exterior"], *polygon["holes"]):
            points = [(float(x), float(y)) for x, y in ring]
            for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
                low, high = sorted((y1, y2))
                for row in range(math.ceil(low - 0.5), math.ceil(high - 0.5)):
                    x = x1 + (row + 0.5 - y1) / (y2 - y1) * (x2 - x1)
                    flips[row, math.ceil(x - 0.5)] ^= True
    return np.logical_xor.accumulate(flips, axis=1)[:, :-1]


def iou(a: Bits, b: Bits) -> float:
    """Of two masks; two empty ones are equal."""
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


def _png_bits(text: str) -> Bits:
    picture = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    assert (picture.format, picture.mode) == ("PNG", "1")
    return np.asarray(picture, dtype=bool)


def _packed_bits(mask: Any) -> Bits:
    height, width = mask["size"]
    stride = -(-width // 8)
    data = base64.b64decode(mask["bits"], validate=True)
    assert len(data) == height * stride
    rows = np.frombuffer(data, dtype=np.uint8).reshape(height, stride)
    return np.unpackbits(rows, axis=1, count=width).astype(bool) if height else rows.astype(bool)
