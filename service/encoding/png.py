"""Grey PNG files of masks and maps (W3C's PNG specification).

Written here and not by Pillow, which tries all filters on each row, takes three times as long and
keeps other threads waiting for all of it.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

# Compressed at a time, since zlib may keep other threads waiting: a fraction of a millisecond.
_ROWS = 64


def encode_grey_png(samples: NDArray[np.uint8], *, width: int, depth: int) -> bytes:
    """A grey PNG file.

    Args:
        samples: (H, B) uint8, the rows as bytes: ``width`` samples of ``depth`` bits each, the highest
            bit first, the last byte filled up.
        width: in pixels.
        depth: 1, 8 or 16.
    """
    height = len(samples)
    # Each row as its difference from the one above, which of labels is nearly all zeros.
    rows = np.full((height, 1 + samples.shape[1]), 2, dtype=np.uint8)
    rows[:1, 1:] = samples[:1]
    np.subtract(samples[1:], samples[:-1], out=rows[1:, 1:])
    deflate = zlib.compressobj(level=1)  # 6 takes several times as long for a tenth less
    parts = [
        deflate.compress(rows[start : start + _ROWS].data) for start in range(0, height, _ROWS)
    ]
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b"".join(parts) + deflate.flush()), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
