"""Masks as runs down the columns of the picture: what every other form of a mask is made of.

A picture of a mask takes as many pixels as its box, its runs only as many numbers as it has columns,
so they are read back from COCO's encoding, which the model's soft masks go to directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.structures.rle import RLE

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class MaskRuns:
    """Longest vertical runs of foreground, C in all, of several masks.

    Attributes:
        owner: (C,) index of the mask, ascending.
        column: (C,) in pixels, ascending within a mask.
        top, bottom: (C,) first row and the one behind the last, ascending within a column.
        number: of masks; one without runs is empty.
        height, width: of the picture.
    """

    owner: Integers
    column: Integers
    top: Integers
    bottom: Integers
    number: int
    height: int
    width: int

    @classmethod
    def of(cls, masks: Sequence[RLE], size: tuple[int, int]) -> MaskRuns:
        """The runs of masks as :mod:`models.structures.rle` encodes them.

        Args:
            masks: of one picture.
            size: its (height, width).
        """
        height, width = size
        counts, owners = _counts(masks)
        ends = _running_sums(counts, owners)
        # Background and foreground take turns; the first count is background, perhaps none.
        foreground = (np.arange(len(counts)) - starts(owners)) % 2 == 1
        stop, owner = ends[foreground], owners[foreground]
        start = stop - counts[foreground]
        # In COCO's order a run may go on at the top of the next column.
        first, last = start // height, (stop - 1) // height
        pieces = last - first + 1
        run = np.arange(len(start)).repeat(pieces)
        column = first[run] + np.arange(len(run)) - (np.cumsum(pieces) - pieces)[run]
        return cls(
            owner=owner[run],
            column=column,
            top=np.maximum(start[run] - column * height, 0),
            bottom=np.minimum(stop[run] - column * height, height),
            number=len(masks),
            height=height,
            width=width,
        )

    def crops(self) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
        """Per mask (left, top, bits): the smallest crop that holds it, made one at a time.

        Bits are (h, w) bool, of an empty mask (0, 0).
        """
        masks = np.arange(self.number)
        begin = np.searchsorted(self.owner, masks).tolist()
        end = np.searchsorted(self.owner, masks, side="right").tolist()
        for i, j in zip(begin, end, strict=True):
            if i == j:
                yield 0, 0, np.zeros((0, 0), dtype=bool)
                continue
            left, top = int(self.column[i]), int(self.top[i:j].min())
            w, h = int(self.column[j - 1]) + 1 - left, int(self.bottom[i:j].max()) - top
            # Column after column with a row more, so that each run ends where no other begins.
            flips = np.zeros((w, h + 1), dtype=bool)
            column = self.column[i:j] - left
            flips[column, self.top[i:j] - top] = True
            flips[column, self.bottom[i:j] - top] = True
            yield left, top, np.logical_xor.accumulate(flips, axis=1)[:, :h].T


def _counts(masks: Sequence[RLE]) -> tuple[Integers, Integers]:
    """Run lengths of all masks, background first, and the mask that each is of."""
    texts = [mask["counts"].encode("ascii") for mask in masks]
    codes = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.int64) - 48
    # The lowest five bits of a character are of a number, lowest first; 32 says that more follow.
    last = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate(([0], last[:-1] + 1))[: len(last)]
    length = last - first + 1
    shift = 5 * (np.arange(len(codes)) - first.repeat(length))
    values = np.add.reduceat((codes & 31) << shift, first) if len(last) else first
    values -= np.where(codes[last] & 16, 1 << (5 * length), 0)
    sizes = np.cumsum([len(text) for text in texts])
    owners = np.searchsorted(sizes, last, side="right")
    # From the fourth on, a number is the difference from the count before the last.
    place = np.arange(len(values)) - starts(owners)
    chain = owners * 3 + np.where(place == 0, 0, 2 - place % 2)
    order = np.argsort(chain, kind="stable")
    counts = np.empty_like(values)
    counts[order] = _running_sums(values[order], chain[order])
    return counts, owners


def starts(groups: Integers) -> Integers:
    """Per entry of (N,) group numbers, equal ones in succession: the index at which its group begins."""
    first = np.flatnonzero(np.diff(groups, prepend=-1))
    return first.repeat(np.diff(first, append=len(groups)))


def _running_sums(values: Integers, groups: Integers) -> Integers:
    """Sums of the values up to each, from the beginning of its group; both (N,), groups ascending."""
    sums = np.cumsum(values)
    start = starts(groups)
    return sums - (sums[start] - values[start])
