"""Is all of a picture there? A copy that broke off has a sound beginning, and fails when it is decoded."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from models.evaluation.files import PICTURE_FORMATS
from models.files import open_regular

_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"\x00\x00\x00\x00IEND\xaeB`\x82"}
"""A file that begins so ends so: JPEG with its EOI, PNG with its IEND."""

_TAIL = 1 << 12
"""Bytes at the end that are looked at: some cameras fill their files up with zeros."""

_SMALL = (16, 16)


def can_be_decoded(path: Path) -> bool:
    """Whether every pixel of the first frame can be had.

    Args:
        path: a picture whose header is sound.
    """
    try:
        with open_regular(path) as file, Image.open(file, formats=PICTURE_FORMATS) as image:
            # All of a JPEG is read, but only an eighth of its size computed: several times as fast.
            image.draft(None, _SMALL)
            image.load()
    except Exception:  # whatever Pillow's decoders raise on broken files
        return False
    return True


def ends_as_it_should(path: Path) -> bool:
    """Whether the file has its format's last bytes, where there are such: a JPEG's EOI, a PNG's IEND.

    A file with something behind them, as some phones append a film, is decoded to be sure.

    Args:
        path: a picture whose header is sound.
    """
    try:
        with open_regular(path) as file:
            beginning = file.read(max(map(len, _ENDS)))
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            tail = file.read(_TAIL).rstrip(b"\0")
    except OSError:
        return False
    ends = [end for start, end in _ENDS.items() if beginning.startswith(start)]
    return not ends or tail.endswith(ends[0]) or can_be_decoded(path)
