"""Masks as polygons with holes, traced from their runs: no mask becomes pixels for it.

Coordinates are those of the boxes: the pixel in column x and row y covers x to x + 1 and y to y + 1,
and y points down. A pixel belongs to a polygon if its centre lies inside of it and of none of its holes
(the even-odd rule). By that, small and thin masks come back exactly, for the simplification moves no
edge over the centre of a pixel; large ones with an IoU of 0.97 at least, mostly of 0.99.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from models.structures.rle import RLE
from service.encoding.mask_runs import Integers, MaskRuns
from service.encoding.simplification import Points, is_straight, simplified

EXACT = 0.35
"""How far an edge can move without touching the centre of a pixel, in pixels: edges lie half way
between the pixels of a mask and the others, and are 1/sqrt(8) = 0.353 from them where they cut a corner."""

COARSEST, SHARE = 1.0, 0.025
"""Outlines that are short for the area of their mask may move by up to a pixel, as long as that times
their length is no more than this share of the area."""

SMALL = 17
"""Pixels. To cut its corners costs any outline half a pixel of area, which is under 3 % from here on;
smaller ones keep the corners of their pixels."""


class Polygon(TypedDict):
    """One outline (P, 2) float64 of x and y, and the holes in it; the last point joins the first.

    Outlines have a positive area by the shoelace formula in these coordinates, holes a negative one.
    """

    exterior: Points
    holes: list[Points]


def encode_polygons(masks: Sequence[RLE], size: tuple[int, int]) -> list[list[Polygon]]:
    """Per mask its polygons, one for each part; parts that touch at corners are one.

    Args:
        masks: in COCO's run-length encoding, as :mod:`models.structures.rle` makes it.
        size: (height, width) of their picture.

    Returns:
        As many lists as masks; that of an empty mask is empty.
    """
    runs = MaskRuns.of(masks, size)
    found: list[list[Polygon]] = [[] for _ in masks]
    if not len(runs.owner):
        return found
    order, loop = _trace(_next_edges(runs))
    row = np.stack((runs.top, runs.bottom), axis=1).ravel()
    of_edge = np.empty_like(loop)
    of_edge[order] = loop
    # An upper edge takes its column's share off from what the lower edges enclose.
    signed = np.stack((-runs.top, runs.bottom), axis=1).ravel()
    area = np.bincount(of_edge, weights=signed).astype(np.float64)
    owner = runs.owner[order[_heads(loop)] // 2]
    points, of_point = _outlines(runs, row, order, loop, corners=np.abs(area) < SMALL)
    straight = is_straight(points, of_point)
    points, of_point = points[~straight], of_point[~straight]
    tolerance = _tolerances(runs, row, order, loop)[owner]
    kept = (np.abs(area) < SMALL)[of_point] | simplified(points, of_point, tolerance)
    outlines = np.split(points[kept], _heads(of_point[kept])[1:])
    polygons: dict[int, Polygon] = {}
    for i in np.flatnonzero(area > 0).tolist():
        polygons[i] = {"exterior": outlines[i], "holes": []}
        found[int(owner[i])].append(polygons[i])
    for hole, around in _holes(area, row, of_edge):
        polygons[around]["holes"].append(outlines[hole])
    return found


def _next_edges(runs: MaskRuns) -> list[int]:
    """For each unit edge at the end of a run, the one that the outline goes to next.

    Edge 2i is the upper end of run i and goes to the right, 2i + 1 the lower one and goes to the left,
    so that foreground lies on the same side of all. On the line between two columns the edges that
    come and those that go are the ends of the pieces of outline on that line: sorted by row, each two
    in succession belong together.
    """
    number = len(runs.owner)
    upper = 2 * np.arange(number)
    # Upper edges come to the line at their right and leave that at their left, lower edges the other way.
    right, left = runs.column + 1, runs.column
    edge = np.concatenate((upper, upper, upper + 1, upper + 1))
    line = np.concatenate((right, left, right, left))
    comes = np.repeat([True, False, False, True], number)
    row = np.concatenate((runs.top, runs.top, runs.bottom, runs.bottom))
    key = np.tile(runs.owner, 4) * (runs.width + 1) + line
    # At one place upper edges go first: parts that touch at a corner are joined there.
    key = (key * (runs.height + 1) + row) * 2 + edge % 2
    pairs = np.argsort(key, kind="stable").reshape(-1, 2)
    first = np.where(comes[pairs[:, 0]], pairs[:, 0], pairs[:, 1])
    second = pairs.sum(axis=1) - first
    following = np.empty(2 * number, dtype=np.int64)
    following[edge[first]] = edge[second]
    answer: list[int] = following.tolist()
    return answer


def _trace(following: list[int]) -> tuple[Integers, Integers]:
    """Edges in the order of their outlines, loop after loop, and the loop that each is of."""
    seen = bytearray(len(following))
    order: list[int] = []
    lengths: list[int] = []
    for start in range(len(following)):
        if seen[start]:
            continue
        before, edge = len(order), start
        while not seen[edge]:
            seen[edge] = 1
            order.append(edge)
            edge = following[edge]
        lengths.append(len(order) - before)
    return np.array(order), np.arange(len(lengths)).repeat(lengths)


def _heads(groups: Integers) -> Integers:
    """Index of the first of each group of (N,) equal numbers in succession."""
    return np.flatnonzero(np.diff(groups, prepend=-1))


def _after(loop: Integers) -> Integers:
    """Index of the next edge of the same loop, for edges in the order of their loops."""
    after = np.arange(1, len(loop) + 1)
    heads = _heads(loop)
    after[np.append(heads[1:], len(loop)) - 1] = heads
    return after


def _outlines(
    runs: MaskRuns, row: Integers, order: Integers, loop: Integers, *, corners: NDArray[np.bool_]
) -> tuple[Points, Integers]:
    """Points (P, 2) of all loops and the loop of each, along the edges between pixels.

    Args:
        runs: of all masks.
        row: (E,) of each edge.
        order, loop: of :func:`_trace`.
        corners: (L,) loops that go through the corners of pixels; the others cut them, from the middle
            of a pixel's side to the next.
    """
    column, y = runs.column[order // 2].astype(np.float64), row[order].astype(np.float64)
    goes_right = order % 2 == 0
    start, end = column + ~goes_right, column + goes_right
    below = y[_after(loop)]
    step = np.sign(below - y) / 2
    whole = corners[loop]
    # Of each edge its middle and, where the outline goes on up or down, the middles of the first and
    # the last side on that way.
    points = np.empty((len(order), 3, 2))
    points[:, 0, 0] = np.where(whole, start, column + 0.5)
    points[:, 0, 1] = y
    points[:, 1:, 0] = end[:, None]
    points[:, 1, 1] = np.where(whole, y, y + step)
    points[:, 2, 1] = below - step
    needed = np.ones((len(order), 3), dtype=bool)
    needed[:, 1] = whole | (step != 0)
    needed[:, 2] = ~whole & (np.abs(below - y) > 1)
    return points[needed], loop.repeat(needed.sum(axis=1))


def _tolerances(
    runs: MaskRuns, row: Integers, order: Integers, loop: Integers
) -> NDArray[np.float64]:
    """Per mask how far its outlines may move, in pixels."""
    y = row[order]
    length = 1 + np.abs(y[_after(loop)] - y)
    lengths = np.bincount(runs.owner[order // 2], weights=length, minlength=runs.number)
    areas = np.bincount(runs.owner, weights=runs.bottom - runs.top, minlength=runs.number)
    return (SHARE * areas / np.maximum(lengths, 1)).clip(EXACT, COARSEST)


def _holes(area: NDArray[np.float64], row: Integers, of_edge: Integers) -> list[tuple[int, int]]:
    """(loop of a hole, loop of the outline around it).

    Above the highest edge of a hole lies a run, and the run's upper edge is of a loop of the same part:
    its outline, or a hole that begins higher, of which the same is true.
    """
    holes = np.flatnonzero(area < 0)
    if not len(holes):
        return []
    lower = np.arange(1, len(row), 2)
    lower = lower[area[of_edge[lower]] < 0]
    lower = lower[np.lexsort((row[lower], of_edge[lower]))]
    highest = lower[_heads(of_edge[lower])]
    around = np.arange(len(area))
    around[holes] = of_edge[highest - 1]
    while (area[around[holes]] < 0).any():
        around[holes] = around[around[holes]]
    return list(zip(holes.tolist(), around[holes].tolist(), strict=True))
