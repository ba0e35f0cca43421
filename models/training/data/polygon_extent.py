"""The part of polygons that a picture shows: its tight box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def visible_extent(
    polygons: Sequence[NDArray[np.float64]], height: int, width: int
) -> tuple[float, float, float, float]:
    """The tight box around what of a union of polygons lies in a picture.

    The extremes of a clipped polygon lie on its own sides, clipped, or in a corner of the picture that it
    covers; so it need not be clipped itself.

    Args:
        polygons: (P, 2) corners x, y each, in pixels.
        height, width: of the picture.

    Returns:
        XYXY in pixels; zeros where nothing of them is in the picture.
    """
    limit = np.array([width, height], dtype=np.float64)
    found = []
    for polygon in polygons:
        starts, steps = polygon, np.roll(polygon, -1, axis=0) - polygon
        found.append(_clipped_ends(starts, steps, limit))
        corners = limit * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        found.append(corners[_is_inside(corners, starts, steps)])
    points = np.concatenate(found) if found else np.empty((0, 2))
    if not len(points):
        return (0.0, 0.0, 0.0, 0.0)
    (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    return (float(x1), float(y1), float(x2), float(y2))


def _clipped_ends(
    starts: NDArray[np.float64], steps: NDArray[np.float64], limit: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Both ends of each side's part in the rectangle (0, 0, *limit), by Liang and Barsky's method."""
    moves = steps != 0
    safe = np.where(moves, steps, 1)
    # Where a side runs parallel to an axis, it is in range there all along or never.
    in_range = (starts >= 0) & (starts <= limit)
    never = np.where(in_range, -np.inf, np.inf)
    to_low, to_high = -starts / safe, (limit - starts) / safe
    enter = np.where(moves, np.minimum(to_low, to_high), never).max(axis=1).clip(min=0)
    leave = np.where(moves, np.maximum(to_low, to_high), -never).min(axis=1).clip(max=1)
    seen = enter <= leave
    starts, steps = starts[seen], steps[seen]
    ends = [starts + steps * part[seen, None] for part in (enter, leave)]
    clipped: NDArray[np.float64] = np.clip(np.concatenate(ends), 0, limit)
    return clipped


def _is_inside(
    points: NDArray[np.float64], starts: NDArray[np.float64], steps: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """For each point whether a polygon covers it: a ray to the right crosses an odd number of sides."""
    x, y = points[:, :1], points[:, 1:]
    ends_y = starts[:, 1] + steps[:, 1]
    crosses = (starts[:, 1] > y) != (ends_y > y)
    down = np.where(steps[:, 1] != 0, steps[:, 1], 1)
    at_x = starts[:, 0] + (y - starts[:, 1]) / down * steps[:, 0]
    inside: NDArray[np.bool_] = (crosses & (x < at_x)).sum(axis=1) % 2 == 1
    return inside
