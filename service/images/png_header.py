"""Reads the chunks of a PNG: size, frames of an animation, EXIF orientation; and keeps of them only
what pixels need, so that no text or colour profile is ever decompressed (W3C PNG, third edition).
"""

from __future__ import annotations

import struct

from service.images.broken import BrokenImageError
from service.images.limits import ImageHeader
from service.images.tiff_header import exif_orientation

# tRNS is left out on purpose: transparency is dropped (see decoding.py).
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})

# At the usual 8 kB a chunk this is far beyond any body; it bounds the cost of empty ones.
_MAX_CHUNKS = 100_000


def read_png_header(data: bytes, *, max_frames: int) -> ImageHeader:
    """Walks the chunks up to IEND; about 0.4 microseconds each.

    Raises:
        BrokenImageError: the file does not begin with one whole IHDR chunk, or has too many chunks.
    """
    if data[8:16] != b"\x00\x00\x00\x0dIHDR" or len(data) < 33:
        raise BrokenImageError("it does not begin with a whole header chunk")
    width, height = struct.unpack_from(">II", data, 16)
    view = memoryview(data)
    kept = [view[:33]]
    orientation = 1
    frames = 0
    position = 33
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(data) or frames > max_frames:
            break
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if kind in _PIXEL_CHUNKS:
            if kind == b"IHDR":
                raise BrokenImageError("it has two header chunks")
            kept.append(view[position:end])
        elif kind == b"eXIf":
            orientation = exif_orientation(data[position + 8 : end - 4])
        elif kind == b"fcTL":
            frames += 1
        if kind == b"IEND":
            break
        position = end
    else:
        raise BrokenImageError(f"it has more than {_MAX_CHUNKS} chunks")
    return ImageHeader(
        width=width,
        height=height,
        content=b"".join(kept),
        orientation=orientation,
        frames=max(frames, 1),
    )
