"""Masks out of COCO's compressed run-length encoding, by NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def decode_rle(rle: Any) -> NDArray[np.bool_]:
    """The (H, W) bool mask of ``{"size": [H, W], "counts": "..."}``.

    Raises:
        ValueError: it is none: the runs do not fill the frame.
    """
    height, width = rle["size"]
    counts = _counts(rle["counts"])
    # One by one, too: sums of huge runs may wrap around.
    fits = ((counts >= 0) & (counts <= height * width)).all()
    if not fits or int(counts.sum()) != height * width:
        raise ValueError(f"The runs of a mask do not fill its {height} x {width} pixels.")
    # Runs of background and foreground by turns, down the columns.
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def rle_area(rle: Any) -> int:
    """Pixels of the mask."""
    return int(_counts(rle["counts"])[1::2].sum())


def _counts(text: str | bytes) -> NDArray[np.int64]:
    """The lengths of the runs.

    As pycocotools writes them: six bits a character, from 48 on; five of them carry the number, lowest
    first, and the sixth says that it goes on. The fifth bit of the last is the sign. From the fourth run
    on, the number is the difference from the run before the last.
    """
    data = text.encode("ascii") if isinstance(text, str) else text
    digits = np.frombuffer(data, dtype=np.uint8).astype(np.int64) - 48
    if not len(digits):
        return digits
    last = (digits & 32) == 0
    if (digits < 0).any() or (digits > 63).any() or not last[-1]:
        raise ValueError("The runs of a mask are no COCO run-length encoding.")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 12:
        raise ValueError("A run of a mask has more than 60 bits.")
    places = np.arange(len(digits)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((digits & 31) << (5 * places), starts)
    numbers -= np.where(digits[ends] & 16, np.int64(1) << (5 * lengths), 0)
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers
