"""Non-maximum suppression of rotated boxes, in plain tensor operations."""

from __future__ import annotations

import torch
from torch import Tensor

from models.layers.rotated_iou import overlapping_pairs

BLOCK = 512
"""Boxes that are settled at a time: those that they suppress are not compared any more."""


def _settle(number: int, better: Tensor, worse: Tensor) -> Tensor:
    """(number,) bool, which boxes stay: a box goes when a better one that stays overlaps it.

    Args:
        number: boxes, best first.
        better, worse: (P,) int64, pairs that overlap too much, ``better`` < ``worse``.
    """
    kept = torch.ones(number, dtype=torch.bool, device=better.device)
    while True:
        # A box's state is final when all better ones are: every round settles at least one more.
        settled = torch.ones_like(kept)
        settled[worse[kept[better]]] = False
        if torch.equal(settled, kept):
            return kept
        kept = settled


def nms_rotated(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keep the best of rotated boxes that overlap.

    A box goes when its IoU with a better one that stays is **at least** the threshold: so does
    Detectron2 on the CPU (its CUDA kernel asks for more than the threshold), and so does this on
    every device. Boxes with equal scores keep their order.

    Args:
        boxes: (R, 5), (x_ctr, y_ctr, w, h, angle in degrees); without NaN.
        scores: (R,).
        iou_threshold: in 0 .. 1. At 0 only the best box stays.

    Returns:
        Indices (int64) of the boxes that stay, best first.

    Raises:
        ValueError: the shapes do not fit.
    """
    if boxes.dim() != 2 or boxes.shape[1] != 5 or scores.shape != boxes.shape[:1]:
        raise ValueError(
            "Rotated NMS needs boxes (R, 5) and scores (R,), "
            f"got {tuple(boxes.shape)} and {tuple(scores.shape)}."
        )
    order = scores.argsort(descending=True, stable=True)
    if iou_threshold <= 0:
        return order[:1]
    boxes = boxes[order]
    remaining = torch.arange(len(boxes), device=boxes.device)
    kept = [remaining[:0]]
    while len(remaining):
        block, remaining = remaining[:BLOCK], remaining[BLOCK:]
        pairs = list(overlapping_pairs(boxes[block], boxes[block], iou_threshold, only_later=True))
        better = torch.cat([row for row, _, _ in pairs])
        worse = torch.cat([column for _, column, _ in pairs])
        block = block[_settle(len(block), better, worse)]
        kept.append(block)
        free = torch.ones(len(remaining), dtype=torch.bool, device=boxes.device)
        for _, column, _ in overlapping_pairs(boxes[block], boxes[remaining], iou_threshold):
            free[column] = False
        remaining = remaining[free]
    return order[torch.cat(kept)]


def batched_nms_rotated(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float
) -> Tensor:
    """:func:`nms_rotated` within each group: boxes of different groups do not touch each other.

    As in Detectron2, every group is moved to a place of its own, (largest - smallest coordinate + 1)
    further than the one before, in float32: that rounds coordinates as there.

    Args:
        boxes: (R, 5) rotated boxes; without NaN and infinity.
        scores: (R,).
        idxs: (R,) the group (class, level) of each box, int64.
        iou_threshold: as for :func:`nms_rotated`.

    Returns:
        Indices (int64) of the boxes that stay, of all groups, best first.
    """
    if len(boxes) == 0:
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    moved = boxes.float().clone()
    centers, half_sides = moved[:, :2], moved[:, 2:4].amax(dim=1, keepdim=True) / 2
    # Half the longer side and not half the diagonal: neighbouring groups may still touch, as there.
    largest, smallest = (centers + half_sides).max(), (centers - half_sides).min()
    moved[:, :2] += (idxs.to(moved.dtype) * (largest - smallest + 1))[:, None]
    return nms_rotated(moved, scores, iou_threshold)
