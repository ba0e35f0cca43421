"""COCO's run-length encoding, from the places where masks begin and end: whole frames are not made.

COCO's runs go down the columns, so a pixel's position is ``column * height + row``. A mask is given
by its edges, the ascending positions at which runs of foreground begin and end by turns.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class RLE(TypedDict):
    """A mask in COCO's compressed run-length encoding; ``size`` is [height, width]."""

    size: list[int]
    counts: str


def encode_rle_crop(
    bits: NDArray[np.bool_], *, left: int, top: int, height: int, width: int
) -> RLE:
    """COCO RLE of a ``height`` x ``width`` mask that is empty outside of a crop.

    Args:
        bits: (h, w) bool, the crop; its corner lies at column ``left``, row ``top``.
    """
    h, w = bits.shape
    # Column after column with a gap before each and one at the end, so that each run has two edges.
    columns = np.zeros(w * (h + 1) + 1, dtype=bool)
    columns[:-1].reshape(w, h + 1)[:, 1:] = bits.T
    changes = np.flatnonzero(columns[1:] != columns[:-1])
    column, row = np.divmod(changes, h + 1)
    edges = (column + left) * height + (row + top)
    owners = np.zeros(len(edges), dtype=np.int64)
    return encode_rle_edges(edges, owners, 1, height, width)[0]


def encode_rle_map(
    values: NDArray[np.integer],
) -> tuple[NDArray[np.integer], NDArray[np.int64], list[RLE]]:
    """COCO RLE of each value's pixels, in one pass over the map.

    Args:
        values: (H, W) integers.

    Returns:
        The values that occur, ascending; their areas in pixels; and their masks.
    """
    height, width = values.shape
    starts, lengths, of_run = runs(values.T.ravel())
    found, owners = np.unique(of_run, return_inverse=True)
    areas = np.bincount(owners, weights=lengths, minlength=len(found)).astype(np.int64)
    order = np.argsort(owners, kind="stable")
    edges = np.stack((starts, starts + lengths), axis=1)[order].ravel()
    masks = encode_rle_edges(edges, owners[order].repeat(2), len(found), height, width)
    return found, areas, masks


def runs(
    values: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.integer]]:
    """Longest runs of equal values in (N,) integers: where each begins, its length, its value."""
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts = np.concatenate((np.zeros(min(len(values), 1), dtype=np.int64), changes))
    return starts, np.diff(starts, append=len(values)), values[starts]


def encode_rle_edges(
    edges: NDArray[np.int64], owners: NDArray[np.int64], number: int, height: int, width: int
) -> list[RLE]:
    """COCO RLE of several masks at once.

    Args:
        edges: (E,) positions of all masks, mask after mask, ascending within each; an even number
            of each. Two that are equal cancel each other out.
        owners: (E,) index of the mask that each edge is of, ascending.
        number: of masks; one without edges is empty.
        height, width: of the masks' frame.
    """
    area = height * width
    first = _firsts((edges[1:] != edges[:-1]) | (owners[1:] != owners[:-1]), len(edges))
    times = np.diff(first, append=len(edges))
    odd = first[times % 2 == 1]
    edges, owners = edges[odd], owners[odd]

    # Run lengths: from 0 over the edges to the end of the frame, the last left out if it is 0.
    per_mask = np.bincount(owners, minlength=number) + 1
    ends = np.full(len(edges) + number, area, dtype=np.int64)
    ends[np.arange(len(edges)) + owners] = edges
    starts = np.roll(ends, 1)
    begin = np.cumsum(per_mask) - per_mask
    starts[begin] = 0
    place = np.arange(len(ends)) - begin.repeat(per_mask)
    counts = ends - starts
    kept = (counts > 0) | (place == 0)
    counts, place = counts[kept], place[kept]
    size = np.add.reduceat(kept, begin, dtype=np.int64) if number else per_mask

    # From the fourth on, a count is the difference from the one before the last.
    differences = counts.copy()
    later = np.flatnonzero(place > 2)
    differences[later] -= counts[later - 2]
    text, lengths = _to_text(differences)
    stops = np.concatenate(([0], np.cumsum(lengths)))[np.concatenate(([0], np.cumsum(size)))]
    bounds = stops.tolist()
    return [
        {"size": [height, width], "counts": text[bounds[i] : bounds[i + 1]]} for i in range(number)
    ]


def _firsts(changed: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """Indices at which groups of neighbours begin, from (length - 1,) "differs from the last"."""
    head = np.zeros(min(length, 1), dtype=np.int64)
    return np.concatenate((head, np.flatnonzero(changed) + 1))


def _to_text(values: NDArray[np.int64]) -> tuple[str, NDArray[np.int64]]:
    """COCO's characters for integers, and how many each takes.

    A character is 48 plus five bits, lowest first, plus 32 if more follow; the highest bit of the
    last five is the sign.
    """
    magnitude = np.where(values < 0, ~values, values)
    lengths = np.ones(len(values), dtype=np.int64)
    limit = 16
    while (longer := magnitude >= limit).any():
        lengths += longer
        limit *= 32
    starts = np.cumsum(lengths) - lengths
    text = np.empty(int(lengths.sum()), dtype=np.uint8)
    chosen = np.arange(len(values))
    digit = 0
    while len(chosen):
        more = lengths[chosen] > digit + 1
        bits = (values[chosen] >> (5 * digit)) & 31
        text[starts[chosen] + digit] = bits + np.where(more, 48 + 32, 48)
        chosen = chosen[more]
        digit += 1
    return text.tobytes().decode("ascii"), lengths
