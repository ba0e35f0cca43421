"""Reads the headers of BMP, GIF and WebP: size, number of frames, and WebP's EXIF orientation."""

from __future__ import annotations

import struct

from service.errors import TooLarge
from service.images.broken import BrokenImageError
from service.images.limits import ImageHeader
from service.images.tiff_header import exif_orientation

# Pillow decodes run lengths in a Python loop over pixels, 0.1 microseconds each, with the
# interpreter locked; files of this kind are icons and pictures from the 1990s.
MAX_RLE_PIXELS = 4_000_000


def read_bmp_header(data: bytes) -> ImageHeader:
    """Reads the size from any of the header versions; rows may run top down (negative height).

    Raises:
        BrokenImageError: the header is cut off.
        TooLarge: ``image_too_large``, for a run-length coded picture above ``MAX_RLE_PIXELS``.
    """
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        compression = 0
    else:
        width, height, compression = struct.unpack_from("<ii4xI", data, 18)
    height = abs(height)
    if compression in (1, 2) and width * height > MAX_RLE_PIXELS:
        raise TooLarge(
            "image_too_large",
            f"The run-length coded BMP has {width * height} pixels; the limit for this kind is "
            f"{MAX_RLE_PIXELS}. Save it as PNG and send it again.",
            limit=MAX_RLE_PIXELS,
            value=width * height,
        )
    return ImageHeader(width=width, height=height, content=data)


def read_gif_header(data: bytes, *, max_frames: int) -> ImageHeader:
    """Walks the blocks, counts pictures and keeps the first with its graphic control; comments
    of millions of blocks reach no decoder. The size covers the screen and the first picture, which
    may be larger than its screen. About 0.05 microseconds a block.

    Raises:
        BrokenImageError: there is no picture.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _colour_table_size(flags)
    kept = [data[:position]]
    control = b""
    frames = 0
    try:
        while frames <= max_frames:
            start, block = position, data[position]
            if block == 0x2C:  # a picture
                left, top, w, h, flags = struct.unpack_from("<4HB", data, position + 1)
                if not frames:
                    width, height = max(width, left + w), max(height, top + h)
                frames += 1
                position += 11 + _colour_table_size(flags)  # the byte after the table: code size
            elif block == 0x21:  # an extension
                position += 2
            elif block == 0x3B:  # the end
                break
            else:
                position += 1  # as decoders do with stray bytes
                continue
            while length := data[position]:
                position += length + 1
            position += 1
            if block == 0x2C and frames == 1:
                kept += [control, data[start:position], b";"]
            elif block == 0x21 and data[start + 1] == 0xF9:
                control = data[start:position]
    except (IndexError, struct.error):  # cut off, which matters only in the first picture
        pass
    if len(kept) == 1:
        raise BrokenImageError("there is no whole picture in it")
    return ImageHeader(width=width, height=height, content=b"".join(kept), frames=frames)


def _colour_table_size(flags: int) -> int:
    """Bytes of the table that the flags of a screen or picture announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def read_webp_header(data: bytes, *, max_frames: int) -> ImageHeader:
    """Reads the canvas from the first chunk and walks the others for frames and EXIF.

    Raises:
        BrokenImageError: the first chunk is not one that says the size.
    """
    first = data[12:16]
    if first == b"VP8X":
        size = int.from_bytes(data[24:30], "little")
        width, height = (size & 0xFFFFFF) + 1, (size >> 24) + 1
    elif first == b"VP8L" and data[20:21] == b"\x2f":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif first == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise BrokenImageError("its first chunk does not say its size")
    orientation, frames, position = 1, 0, 12
    while position + 8 <= len(data) and frames <= max_frames:
        kind = data[position : position + 4]
        (length,) = struct.unpack_from("<I", data, position + 4)
        if kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            exif = data[position + 8 : position + 8 + length]
            orientation = exif_orientation(exif.removeprefix(b"Exif\0\0"))
        position += 8 + length + (length & 1)
    return ImageHeader(
        width=width,
        height=height,
        content=data,
        orientation=orientation,
        frames=max(frames, 1),
    )
