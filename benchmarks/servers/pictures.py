"""A tiny picture in a large file: what a photograph costs to move, without what it costs to decode."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def padded_jpeg(size: int, *, seed: int = 0) -> bytes:
    """A JPEG of 32x32 pixels that comments of random bytes fill up to ``size`` bytes."""
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((32, 32)).save(file, "JPEG", quality=90)
    tiny = file.getvalue()
    comments, missing = [], size - len(tiny)
    while missing > 0:
        length = max(min(missing, 65_537), 4)  # the marker, two bytes of length, the comment
        comments.append(b"\xff\xfe" + (length - 2).to_bytes(2, "big") + rng.bytes(length - 4))
        missing -= length
    return tiny[:2] + b"".join(comments) + tiny[2:]
