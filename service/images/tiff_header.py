"""Reads the directories of a TIFF file, which are also the form of EXIF data: size and frames,
the orientation, and a cleaned file whose first directory is its last and holds only what pixels
need.

Sources: TIFF 6.0; the BigTIFF extension.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from service.images.broken import BrokenImageError
from service.images.limits import ImageHeader, ImageLimits
from service.images.sniffing import unsupported

_WIDTH, _HEIGHT, _COMPRESSION, _ORIENTATION = 256, 257, 259, 274
_STRIP_BYTE_COUNTS, _TILE_WIDTH, _TILE_HEIGHT, _TILE_BYTE_COUNTS = 279, 322, 323, 325
_SCALARS = frozenset({256, 257, 259, 262, 266, 277, 278, 284, 317, 322, 323})
# The tags of TIFF 6.0 that say how samples are laid out, coded and coloured. All else (EXIF, XMP,
# colour profiles, maker notes, sub-directories) stays unread.
_PIXEL_TAGS = _SCALARS | {258, 273, 279, 292, 293, 320, 324, 325, 332, 338, 339, 347}
_PIXEL_TAGS |= {529, 530, 531, 532}
# None, the three of CCITT, LZW, JPEG, two numbers for Deflate, PackBits, Zstandard. Old-style JPEG
# (6) and the rest are rare, and their decoders little tried.
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32946, 32773, 50000})

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_TYPE_SIZES |= {13: 4, 16: 8, 17: 8, 18: 8}
_INTEGER_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}
# One strip per row in each of four planes at the largest side is 65,536.
_MAX_STRIPS = 1_000_000


@dataclass(frozen=True)
class _Entry:
    """One tag: its values' type, number, place and bytes, and the entry's own bytes."""

    kind: int
    count: int
    position: int
    size: int
    out_of_line: bool
    raw: bytes


class _Layout:
    """Byte order and widths: what tells the dialects of TIFF apart."""

    def __init__(self, data: bytes) -> None:
        self.order = "<" if data[:2] == b"II" else ">"
        self.big = struct.unpack_from(self.order + "H", data, 2)[0] == 43
        self.header = self.order + ("2sHHHQ" if self.big else "2sHI")
        self.count = self.order + ("Q" if self.big else "H")
        self.entry = self.order + ("HHQ" if self.big else "HHI")
        self.word = self.order + ("Q" if self.big else "I")
        self.word_size = 8 if self.big else 4

    def first_directory(self, data: bytes) -> int:
        return int(struct.unpack_from(self.header, data)[-1])

    def directory_span(self, data: bytes, offset: int) -> tuple[int, int]:
        """Where the entries begin and end; the link to the next directory follows them."""
        (number,) = struct.unpack_from(self.count, data, offset)
        first = offset + struct.calcsize(self.count)
        return first, first + number * self.entry_size

    @property
    def entry_size(self) -> int:
        return struct.calcsize(self.entry) + self.word_size

    def entries(
        self, data: bytes, offset: int, wanted: frozenset[int] | set[int]
    ) -> dict[int, _Entry]:
        """The wanted tags of the directory at ``offset``; the first of a repeated tag counts."""
        first, end = self.directory_span(data, offset)
        if end > len(data):
            raise BrokenImageError("a directory of tags is cut off")
        found: dict[int, _Entry] = {}
        for start in range(first, end, self.entry_size):
            tag, kind, count = struct.unpack_from(self.entry, data, start)
            if tag not in wanted or tag in found:
                continue
            if kind not in _TYPE_SIZES:
                raise BrokenImageError(f"tag {tag} has an unknown type")
            size = _TYPE_SIZES[kind] * count
            position = start + struct.calcsize(self.entry)
            out_of_line = size > self.word_size
            if out_of_line:
                (position,) = struct.unpack_from(self.word, data, position)
            if position + size > len(data):
                raise BrokenImageError(f"the values of tag {tag} lie outside the file")
            raw = data[start : start + self.entry_size]
            found[tag] = _Entry(kind, count, position, size, out_of_line, raw)
        return found

    def integers(self, data: bytes, entry: _Entry) -> tuple[int, ...]:
        if entry.kind not in _INTEGER_CODES or entry.count > _MAX_STRIPS:
            raise BrokenImageError("a tag has values of the wrong type or number")
        code = f"{self.order}{entry.count}{_INTEGER_CODES[entry.kind]}"
        return struct.unpack_from(code, data, entry.position)


def exif_orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, that EXIF data (a TIFF header and directory) holds; 1 where the
    data is broken or says nothing, as viewers do.
    """
    try:
        layout = _Layout(exif)
        entries = layout.entries(exif, layout.first_directory(exif), {_ORIENTATION})
        (orientation,) = layout.integers(exif, entries[_ORIENTATION])
    except (BrokenImageError, struct.error, KeyError, ValueError, OverflowError):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def read_tiff_header(data: bytes, *, limits: ImageLimits) -> ImageHeader:
    """Reads the first directory, counts the others, and rewrites the file around the first.

    Raises:
        BrokenImageError: the directory is broken, or its strips claim more bytes than the file has.
        UnsupportedMediaType: the compression is not one of those allowed.
        TooLarge: a tile is over the limits of an image; it would be decoded as a whole.
    """
    layout = _Layout(data)
    first = layout.first_directory(data)
    if first < struct.calcsize(layout.header):
        raise BrokenImageError("its directory overlaps its header")
    entries = layout.entries(data, first, _PIXEL_TAGS)
    scalars: dict[int, int] = {}
    for tag in _SCALARS & entries.keys():
        values = layout.integers(data, entries[tag])
        if len(values) != 1:
            raise BrokenImageError(f"tag {tag} has {len(values)} values in place of one")
        scalars[tag] = values[0]
    if _WIDTH not in scalars or _HEIGHT not in scalars:
        raise BrokenImageError("it does not say its size")
    if scalars.get(_COMPRESSION, 1) not in _COMPRESSIONS:
        raise unsupported(f"a TIFF with compression {scalars[_COMPRESSION]}")
    if _TILE_WIDTH in scalars or _TILE_HEIGHT in scalars:
        limits.check_size(scalars.get(_TILE_WIDTH, 1), scalars.get(_TILE_HEIGHT, 1))
    _check_strips(data, layout, entries, compressed=scalars.get(_COMPRESSION, 1) != 1)
    return ImageHeader(
        width=scalars[_WIDTH],
        height=scalars[_HEIGHT],
        content=_rewritten(data, layout, first, entries),
        orientation=exif_orientation(data),
        frames=_count_frames(data, layout, first, stop_at=limits.max_frames + 1),
    )


def _check_strips(
    data: bytes, layout: _Layout, entries: dict[int, _Entry], *, compressed: bool
) -> None:
    """Strips that share bytes would have the decoder read one file thousands of times."""
    claimed = 0
    for tag in (_STRIP_BYTE_COUNTS, _TILE_BYTE_COUNTS):
        if tag in entries:
            claimed += sum(layout.integers(data, entries[tag]))
    if claimed > len(data):
        raise BrokenImageError("it is cut off, or its strips overlap")
    if compressed and not claimed:
        raise BrokenImageError("it does not say how long its strips are")


def _count_frames(data: bytes, layout: _Layout, first: int, *, stop_at: int) -> int:
    seen: set[int] = set()
    offset = first
    while offset and offset not in seen and len(seen) < stop_at:
        seen.add(offset)
        try:
            link = layout.directory_span(data, offset)[1]
            (offset,) = struct.unpack_from(layout.word, data, link)
        except struct.error:  # the chain leaves the file: only the first directory matters to us
            break
    return len(seen)


def _rewritten(data: bytes, layout: _Layout, offset: int, entries: dict[int, _Entry]) -> bytes:
    """The file with its directory at ``offset`` replaced by one of the given entries only, in the
    same place, so that nothing moves and a file that is cut off stays so.
    """
    directory = struct.pack(layout.count, len(entries))
    directory += b"".join(entries[tag].raw for tag in sorted(entries))
    directory += struct.pack(layout.word, 0)
    end = offset + len(directory)
    for entry in entries.values():
        if entry.out_of_line and entry.position < end and entry.position + entry.size > offset:
            raise BrokenImageError("the values of a tag overlap the directory")
    view = memoryview(data)
    return b"".join((view[:offset], directory, view[end:]))
