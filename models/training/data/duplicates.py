"""Pictures that are there twice: the same bytes, or to the eye the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.evaluation.files import PICTURE_FORMATS
from models.files import open_regular
from models.training.data.pictures import in_threads

_CHUNK = 1 << 20
_HASH_SIDE = 8
_MOST_BITS = 3
"""Of the 64 of a difference hash that may differ; saving as JPEG again turns one or two."""

_THUMBNAIL_SIDE = 16
_MOST_LEVELS = 3.0
"""Mean difference of two thumbnails' pixels, of 255."""

_FLAT = 2.0
"""Standard deviation of a thumbnail below which a picture shows nothing, and is like any other such."""

_ROWS = 4096


@dataclass(frozen=True)
class Looks:
    """What a picture looks like, in little.

    Attributes:
        bits: (64,) float32 of -1 and 1: is it brighter to the right? (Krawetz 2013, dHash.)
        thumbnail: (256,) float32 grey levels.
    """

    bits: NDArray[np.float32]
    thumbnail: NDArray[np.float32]


def same_files(first: Sequence[Path], second: Sequence[Path]) -> list[tuple[int, int]]:
    """Indices of pairs, one of each sequence, whose bytes are equal; each of ``first`` once.

    Only files that have a size in common with one of the other sequence are read.
    """
    sizes, others = [_sizes(paths) for paths in (first, second)]
    in_both = set(sizes) & set(others)
    known: dict[bytes, int] = {}
    wanted = [index for size in in_both for index in others[size]]
    digests = in_threads(_digest, (second[index] for index in wanted))
    for index, digest in zip(wanted, digests, strict=True):
        if digest is not None:
            known.setdefault(digest, index)
    wanted = sorted(index for size in in_both for index in sizes[size])
    digests = in_threads(_digest, (first[index] for index in wanted))
    return [
        (index, known[digest])
        for index, digest in zip(wanted, digests, strict=True)
        if digest is not None and digest in known
    ]


def same_files_within(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Pairs of indices (the first that has these bytes, a later one) of equal files."""
    wanted = sorted(i for same in _sizes(paths).values() if len(same) > 1 for i in same)
    known: dict[bytes, int] = {}
    pairs = []
    digests = in_threads(_digest, (paths[index] for index in wanted))
    for index, digest in zip(wanted, digests, strict=True):
        if digest is None:
            continue
        earlier = known.setdefault(digest, index)
        if earlier != index:
            pairs.append((earlier, index))
    return pairs


def look_alikes(first: Sequence[Path], second: Sequence[Path]) -> list[tuple[int, int]]:
    """Indices of pairs, one of each sequence, that look the same; each of ``first`` once.

    Both difference hashes and thumbnails have to agree, so that two pictures of one scene need not,
    but a picture that was saved again or resized does. Pictures that are all of one colour are left out.
    Every picture is decoded.
    """
    ours, theirs = [
        [(index, looks) for index, looks in enumerate(in_threads(_looks, paths)) if looks]
        for paths in (first, second)
    ]
    if not ours or not theirs:
        return []
    their_bits = np.stack([looks.bits for _, looks in theirs])
    pairs = []
    for start in range(0, len(ours), _ROWS):
        rows = ours[start : start + _ROWS]
        bits = np.stack([looks.bits for _, looks in rows])
        # The product of signs is the number of equal ones less that of different ones.
        differing = (bits.shape[1] - bits @ their_bits.T) / 2
        for (index, looks), row in zip(rows, differing, strict=True):
            for candidate in np.flatnonzero(row <= _MOST_BITS):
                other, other_looks = theirs[candidate]
                if np.abs(looks.thumbnail - other_looks.thumbnail).mean() <= _MOST_LEVELS:
                    pairs.append((index, other))
                    break
    return pairs


def _sizes(paths: Sequence[Path]) -> dict[int, list[int]]:
    """Indices of the files by their number of bytes; what is not there is left out."""
    sizes: dict[int, list[int]] = {}
    for index, path in enumerate(paths):
        if os.path.isfile(path):
            sizes.setdefault(os.path.getsize(path), []).append(index)
    return sizes


def _digest(path: Path) -> bytes | None:
    found = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while part := file.read(_CHUNK):
                found.update(part)
    except OSError:
        return None
    return found.digest()


def _looks(path: Path) -> Looks | None:
    """None of a file that cannot be read, which others report, or that shows one colour only."""
    try:
        with open_regular(path) as file, Image.open(file, formats=PICTURE_FORMATS) as image:
            # A JPEG is decoded in an eighth of its size where that is enough: several times as fast.
            image.draft("L", (8 * _THUMBNAIL_SIDE, 8 * _THUMBNAIL_SIDE))
            grey: Any = ImageOps.exif_transpose(image).convert("L")
            thumbnail = _pixels(grey, _THUMBNAIL_SIDE, _THUMBNAIL_SIDE)
            steps = _pixels(grey, _HASH_SIDE + 1, _HASH_SIDE)
    except Exception:  # whatever Pillow's parsers raise on broken files; the report names those
        return None
    if thumbnail.std() < _FLAT:
        return None
    bits = np.where(steps[:, 1:] > steps[:, :-1], 1, -1).astype(np.float32)
    return Looks(bits.ravel(), thumbnail.ravel())


def _pixels(grey: Image.Image, width: int, height: int) -> NDArray[np.float32]:
    small = grey.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)
