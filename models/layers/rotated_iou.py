"""Exact intersection over union of rotated boxes, in plain tensor operations.

A rotated box is (x_ctr, y_ctr, w, h, angle): pixels, and degrees counter-clockwise on the screen,
where y points down (Detectron2's documentation of ``RotatedBoxes``).

The area that a box P shares with a rectangle [-W, W] x [-H, H] is, by Green's theorem, the integral
of clamp(x, -W, W) dy along the part of P's border where |y| < H. Each of P's four sides adds a
piecewise linear term, so there is no polygon to build, no vertex to sort and no epsilon: the result
is continuous in every coordinate, identical and touching boxes included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

PAIRS_PER_STEP = 1 << 15
"""Pairs whose IoU is computed at once; the temporaries, some 20 MB, stay near a CPU's caches."""

CELLS_PER_STEP = 1 << 20
"""Cells of the pair matrix that are looked at at once while candidates are searched."""

_MIN_AREA = 1e-14
"""A smaller box has IoU 0 with everything, as in Detectron2."""


def _frames(boxes: Tensor) -> Tensor:
    """(R, 6) float64: centre x, y, half width, half height, cosine and sine of the angle."""
    boxes = boxes.double()  # areas below are differences of large products
    radians = boxes[:, 4] * (math.pi / 180)
    return torch.stack(
        (*(boxes[:, :2].unbind(1)), boxes[:, 2] / 2, boxes[:, 3] / 2, radians.cos(), radians.sin()),
        dim=1,
    )


def enclosing_boxes(boxes: Tensor) -> Tensor:
    """The smallest axis-aligned boxes around rotated ones: (R, 5) -> (R, 4), XYXY, same dtype."""
    x, y, half_width, half_height, cos, sin = _frames(boxes).unbind(1)
    reach_x = half_width * cos.abs() + half_height * sin.abs()
    reach_y = half_width * sin.abs() + half_height * cos.abs()
    corners = torch.stack((x - reach_x, y - reach_y, x + reach_x, y + reach_y), dim=1)
    return corners.to(boxes.dtype)


def _intersection(first: Tensor, second: Tensor) -> Tensor:
    """Areas (P,) that the boxes of ``first`` and ``second``, frames (P, 6), share pair by pair."""
    x1, y1, w1, h1, cos1, sin1 = first.unbind(1)
    x2, y2, w2, h2, cos2, sin2 = second.unbind(1)
    # The first box as the second one sees it: centre, and its two half sides as vectors.
    dx, dy = x1 - x2, y1 - y2
    center_x, center_y = dx * cos2 - dy * sin2, dx * sin2 + dy * cos2
    cos, sin = cos1 * cos2 + sin1 * sin2, sin1 * cos2 - cos1 * sin2
    ux, uy, vx, vy = w1 * cos, -w1 * sin, h1 * sin, h1 * cos
    # Its four sides in turn: where each starts, and how far it goes. (4, P)
    start_x = torch.stack((-ux - vx, ux - vx, ux + vx, vx - ux)) + center_x
    start_y = torch.stack((-uy - vy, uy - vy, uy + vy, vy - uy)) + center_y
    side_x = torch.stack((ux, vx, -ux, -vx)) * 2
    side_y = torch.stack((uy, vy, -uy, -vy)) * 2

    def crossings(start: Tensor, side: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
        """When (0 is the start of the side, 1 its end) a side enters and leaves [-half, half]."""
        # A side that runs along the strip stays inside or outside of it: any large number will do.
        slope = torch.where(side.abs() < 1e-30, 1e-30, side)
        low, high = (-half - start) / slope, (half - start) / slope
        return torch.minimum(low, high), torch.maximum(low, high)

    enter_y, leave_y = crossings(start_y, side_y, h2)
    enter_y, leave_y = enter_y.clamp_(0, 1), leave_y.clamp_(0, 1)
    enter_x, leave_x = crossings(start_x, side_x, w2)
    enter_x = torch.minimum(torch.maximum(enter_x, enter_y), leave_y)
    leave_x = torch.minimum(torch.maximum(leave_x, enter_y), leave_y)

    def clamped_x(time: Tensor) -> Tensor:
        x = torch.addcmul(start_x, time, side_x)
        return torch.minimum(torch.maximum(x, -w2), w2)

    # clamp(x) is constant before x enters the strip and after it leaves, linear between.
    integral = clamped_x(enter_y) * (enter_x - enter_y)
    integral += (clamped_x(enter_x) + clamped_x(leave_x)) * (leave_x - enter_x) / 2
    integral += clamped_x(leave_y) * (leave_y - leave_x)
    return (integral * side_y).sum(dim=0).clamp_(min=0)


def _areas(frames: Tensor) -> Tensor:
    return 4 * frames[:, 2] * frames[:, 3]


def _is_empty(frames: Tensor) -> Tensor:
    return (_areas(frames) < _MIN_AREA) | (frames[:, 2] <= 0) | (frames[:, 3] <= 0)


def _pair_iou(first: Tensor, second: Tensor, index1: Tensor, index2: Tensor) -> Tensor:
    """IoU (P,) float32 of ``first[index1]`` and ``second[index2]``, some pairs at a time."""
    results = [index1.new_zeros(0, dtype=torch.float32)]
    for part1, part2 in zip(
        torch.split(index1, PAIRS_PER_STEP), torch.split(index2, PAIRS_PER_STEP), strict=True
    ):
        boxes1, boxes2 = first[part1], second[part2]
        shared = _intersection(boxes1, boxes2)
        areas1, areas2 = _areas(boxes1), _areas(boxes2)
        shared = torch.minimum(shared, torch.minimum(areas1, areas2))
        iou = shared / (areas1 + areas2 - shared)
        iou = torch.where(_is_empty(boxes1) | _is_empty(boxes2), 0.0, iou)
        results.append(iou.float())  # rounding makes IoUs that are equal on paper equal here too
    return torch.cat(results)


def overlapping_pairs(
    boxes1: Tensor, boxes2: Tensor, iou_threshold: float = 0.0, *, only_later: bool = False
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The pairs of rotated boxes whose IoU reaches a threshold, in blocks of rows.

    Most pairs are ruled out by what their enclosing axis-aligned boxes share, which is never less
    than what the boxes share; only the others are computed. Memory does not grow with R1.

    Args:
        boxes1: (R1, 5) rotated boxes.
        boxes2: (R2, 5) rotated boxes on the same device.
        iou_threshold: pairs with at least this IoU, in 0 .. 1. At 0 pairs whose enclosing boxes
            share nothing are left out all the same.
        only_later: only pairs (i, j) with i < j, for boxes compared with themselves.

    Yields:
        Row indices (P,) int64 into ``boxes1``, columns into ``boxes2``, and their IoU (P,) float32.
    """
    if len(boxes1) == 0 or len(boxes2) == 0:
        return
    frames1, frames2 = _frames(boxes1), _frames(boxes2)
    bounds1, bounds2 = enclosing_boxes(boxes1.double()), enclosing_boxes(boxes2.double())
    # float32 from here: near the origin, and a little larger to make up for rounding. A box with
    # NaN or infinity meets none and must not spoil the others.
    bounds1, bounds2 = (torch.nan_to_num(b, 0.0, 0.0, 0.0) for b in (bounds1, bounds2))
    origin = bounds1[:, :2].amin(dim=0).repeat(2)
    bounds1, bounds2 = (bounds1 - origin).float(), (bounds2 - origin).float()
    slack = 1e-6 * torch.maximum(bounds1.abs().max(), bounds2.abs().max())
    low1, high1, low2, high2 = (
        bounds1[:, :2],
        bounds1[:, 2:] + slack,
        bounds2[:, :2],
        bounds2[:, 2:],
    )
    area1, area2 = _areas(frames1).float() * 1.0001, _areas(frames2).float() * 1.0001
    rows_per_step = max(1, CELLS_PER_STEP // len(boxes2))
    for start in range(0, len(boxes1), rows_per_step):
        rows = slice(start, start + rows_per_step)
        first_column = start if only_later else 0
        columns = slice(first_column, None)
        # What a pair can share at most, and the IoU that this would give.
        width = torch.minimum(high1[rows, None, 0], high2[columns, 0])
        width -= torch.maximum(low1[rows, None, 0], low2[columns, 0])
        height = torch.minimum(high1[rows, None, 1], high2[columns, 1])
        height -= torch.maximum(low1[rows, None, 1], low2[columns, 1])
        shared = width.clamp_(min=0) * height.clamp_(min=0)
        shared = torch.minimum(shared, torch.minimum(area1[rows, None], area2[columns]))
        enough = (area1[rows, None] + area2[columns]) * (
            iou_threshold / (1 + iou_threshold) / 1.001
        )
        possible = (shared >= enough) & (shared > 0)
        if only_later:
            possible = possible.triu(diagonal=1)
        row, column = possible.nonzero().unbind(1)
        row, column = row + start, column + first_column
        iou = _pair_iou(frames1, frames2, row, column)
        reached = iou >= iou_threshold
        yield row[reached], column[reached], iou[reached]


def pairwise_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of all pairs of rotated boxes.

    Args:
        boxes1: (R1, 5), (x_ctr, y_ctr, w, h, angle in degrees).
        boxes2: (R2, 5), on the same device.

    Returns:
        (R1, R2) float32 in 0 .. 1; 0 where boxes do not meet or one has no area. Besides this
        matrix the memory in use is bounded (see :func:`overlapping_pairs`).

    Raises:
        ValueError: boxes are not of shape (R, 5).
    """
    for boxes in (boxes1, boxes2):
        if boxes.dim() != 2 or boxes.shape[1] != 5:
            raise ValueError(f"Rotated boxes need shape (R, 5), got {tuple(boxes.shape)}.")
    result = torch.zeros((len(boxes1), len(boxes2)), device=boxes1.device)
    for row, column, iou in overlapping_pairs(boxes1, boxes2):
        result[row, column] = iou
    return result
