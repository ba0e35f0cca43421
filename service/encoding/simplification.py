"""Fewer points for outlines, all of many masks at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.encoding.mask_runs import Integers, starts

Points = NDArray[np.float64]


def is_straight(points: Points, loop: Integers) -> NDArray[np.bool_]:
    """(P,) bool: which points lie on the straight line through both of their neighbours.

    Args:
        points: (P, 2), in the order of their loops.
        loop: (P,) of each; equal numbers in succession.
    """
    heads = np.flatnonzero(np.diff(loop, prepend=-1))
    ends = np.append(heads[1:], len(loop)) - 1
    before, after = np.arange(-1, len(points) - 1), np.arange(1, len(points) + 1)
    before[heads], after[ends] = ends, heads
    come, go = points - points[before], points[after] - points
    straight: NDArray[np.bool_] = come[:, 0] * go[:, 1] == come[:, 1] * go[:, 0]
    return straight


def simplified(points: Points, loop: Integers, tolerance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points to keep, so that what is left out is near enough to the lines between them.

    The method of Ramer, Douglas and Peucker, for all loops at once: each round cuts the pieces that are
    too far from their line at their farthest point.

    Args:
        points: (P, 2), in the order of their loops, which are closed.
        loop: (P,) of each, 0 to L - 1, all of them.
        tolerance: (L,) the distance that is near enough, per loop.
    """
    allowed = np.square(tolerance)[loop]
    head = starts(loop)
    kept: NDArray[np.bool_] = np.arange(len(points)) == head
    # A loop is two pieces to begin with: from its first point to the farthest from it, and back.
    kept[_largest(np.square(points - points[head]).sum(axis=1), np.flatnonzero(kept))] = True
    todo = np.arange(len(points))
    while len(todo):
        ends = np.flatnonzero(kept)
        # Of each piece where it ends: the next point that is kept, or where the loop began.
        others = np.append(ends[1:], 0)
        others = np.where(loop[others] == loop[ends], others, head[ends])
        others[-1] = head[ends[-1]]
        piece = np.searchsorted(ends, todo, side="right") - 1
        away = _distances(points[todo], points[ends], points[others], piece)
        away -= allowed[todo]
        far = _largest(away, np.flatnonzero(np.diff(piece, prepend=-1)))
        cut = far[away[far] > 0]
        kept[todo[cut]] = True
        pending = np.zeros(len(ends), dtype=bool)
        pending[piece[cut]] = True
        todo = todo[pending[piece] & ~kept[todo]]
    return kept


def _distances(points: Points, a: Points, b: Points, piece: Integers) -> NDArray[np.float64]:
    """Squared distance (P,) of points (P, 2) from the lines between ``a`` and ``b``, both (L, 2), of
    which each point has the one that ``piece`` (P,) tells."""
    line = b - a
    length = np.maximum(np.einsum("ij,ij->i", line, line), 1e-9)
    off, along = points - a[piece], line[piece]
    share = np.einsum("ij,ij->i", along, off) / length[piece]
    off -= share.clip(0, 1)[:, None] * along
    distances: NDArray[np.float64] = np.einsum("ij,ij->i", off, off)
    return distances


def _largest(values: NDArray[np.float64], heads: Integers) -> Integers:
    """Index of the first largest value of each group; ``heads`` are the groups' first indices."""
    group = np.arange(len(heads)).repeat(np.diff(heads, append=len(values)))
    index = np.flatnonzero(values == np.maximum.reduceat(values, heads)[group])
    return index[np.diff(group[index], prepend=-1) > 0]
