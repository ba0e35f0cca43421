"""Reads a JPEG's marker segments as libjpeg does: its size, its EXIF orientation and how many
scans it makes the decoder do (ITU-T T.81, annex B).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from service.errors import UnsupportedMediaType
from service.images.broken import BrokenImageError
from service.images.limits import ImageHeader
from service.images.tiff_header import exif_orientation

_SOS = 0xDA
_EOI = 0xD9
_WITHOUT_BODY = frozenset({0x01, _EOI})
_APP1 = 0xE1
_PROGRESSIVE = 0xC2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Baseline, extended sequential and progressive, all with Huffman codes. The lossless, hierarchical
# and arithmetic-coded kinds are shown by no browser, and the last cost far more per byte.
_SUPPORTED_FRAMES = frozenset({0xC0, 0xC1, _PROGRESSIVE})
# Colour depends on the application segments 0 (JFIF) and 14 (Adobe). All others and comments are
# metadata: EXIF, colour profiles, thumbnails, further pictures. They reach no parser but ours.
_METADATA = (frozenset(range(0xE0, 0xF0)) - {0xE0, 0xEE}) | {0xFE}

# An ordinary file has some tens; the cap bounds what reading empty segments can cost.
_MAX_SEGMENTS = 10_000

# The next marker: 0xFF and a code that is no stuffed zero, fill byte or restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def read_jpeg_header(data: bytes, *, max_scans: int) -> ImageHeader:
    """Reads up to the first scan, and beyond it only where libjpeg would do more than one scan.

    Raises:
        BrokenImageError: the header, or a file of several scans, is cut off.
        UnsupportedMediaType: the JPEG is lossless, hierarchical or arithmetic-coded.
    """
    view = memoryview(data)
    kept: list[memoryview] = [view[:2]]
    orientation: int | None = None
    frame: tuple[int, int, int, int] | None = None  # marker, height, width, components
    segments = _segments(data, 2)
    for marker, start, end in segments:
        if marker in _FRAMES:
            if frame is not None:
                raise BrokenImageError("it has two frame headers")
            if marker not in _SUPPORTED_FRAMES:
                raise _unsupported_coding()
            height, width, components = struct.unpack_from(">xHHB", data, start + 4)
            frame = (marker, height, width, components)
        if marker == _SOS:
            kept.append(view[start:])
            break
        if marker == _APP1 and orientation is None and data[start + 4 : start + 10] == b"Exif\0\0":
            orientation = exif_orientation(data[start + 10 : end])
        if marker not in _METADATA:
            kept.append(view[start:end])
    else:
        raise BrokenImageError("it ends before its first scan")
    if frame is None:
        raise BrokenImageError("it has no frame header")
    kind, height, width, components = frame
    scans = 1
    # libjpeg's own condition for going on to further scans.
    if kind == _PROGRESSIVE or data[start + 4] < components:
        for marker, _, _ in segments:
            scans += marker == _SOS
            if scans > max_scans:
                break
    return ImageHeader(
        width=width,
        height=height,
        content=b"".join(kept),
        orientation=orientation or 1,
        scans=scans,
    )


def _segments(data: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """Segments from ``position`` to the end of the image: code, start of the marker, end."""
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            raise BrokenImageError("it is cut off")
        start, marker = found.start(), data[found.end() - 1]
        position = found.end()
        if marker not in _WITHOUT_BODY:
            (length,) = struct.unpack_from(">H", data, position)
            position += length
            if length < 2 or position > len(data):
                raise BrokenImageError("it is cut off")
        yield marker, start, position
        if marker == _EOI:
            return
    raise BrokenImageError(f"it has more than {_MAX_SEGMENTS} segments")


def _unsupported_coding() -> UnsupportedMediaType:
    return UnsupportedMediaType(
        "unsupported_image_format",
        "This is a lossless, hierarchical or arithmetic-coded JPEG; of JPEG, only baseline and "
        "progressive are allowed. Save it as one of them and send it again.",
        detected="an unusual kind of JPEG",
    )
