"""Areas that boxes have in common, as NumPy; boxes are (N, 4) float64 XYXY in pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.structures import RotatedBoxes
from models.structures.rotated_boxes import pairwise_iou_rotated
from service.inference.windows.window import Window

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def corners_of(window: Window) -> Floats:
    """(4,) XYXY."""
    return np.array([window.left, window.top, window.right, window.bottom], dtype=np.float64)


def clip_boxes(boxes: Floats, corners: Floats) -> Floats:
    """Boxes cut to those of a window, (4,); without area where they lie outside."""
    low, high = np.split(corners, 2)
    clipped: Floats = np.clip(boxes, np.tile(low, 2), np.tile(high, 2))
    return clipped


def box_areas(boxes: Floats) -> Floats:
    """(N,) square pixels."""
    areas: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def box_around(boxes: Floats) -> Floats:
    """The box around all, (4,)."""
    return np.concatenate((boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)))


def meeting(box: Floats, others: Floats) -> NDArray[np.bool_]:
    """(N,) whether a box (4,) and others have an area in common."""
    apart = np.minimum(box[2:], others[:, 2:]) <= np.maximum(box[:2], others[:, :2])
    return ~np.asarray(apart.any(axis=1), dtype=bool)


def common_areas(first: Floats, second: Floats) -> Floats:
    """Areas that all pairs have in common, (A, B)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common: Floats = (high - low).clip(min=0).prod(axis=2)
    return common


def overlaps(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """IoU and intersection over the smaller one of all pairs, (A, B) each; 0 of boxes without area."""
    common = common_areas(first, second)
    areas = box_areas(first)[:, None], box_areas(second)[None]
    total, smaller = areas[0] + areas[1] - common, np.minimum(*areas)
    zeros = np.zeros_like(common)
    return (
        np.divide(common, total, out=zeros.copy(), where=common > 0),
        np.divide(common, smaller, out=zeros, where=common > 0),
    )


def rotated_overlaps(boxes: RotatedBoxes, one: int, others: Integers) -> tuple[Floats, Floats]:
    """As of :func:`overlaps` of one box and others, (B,) each."""
    rest = boxes[torch.from_numpy(others)]
    iou = pairwise_iou_rotated(boxes[one], rest)[0].double().numpy()
    areas = float(boxes[one].area()[0]), rest.area().double().numpy()
    common = iou * (areas[0] + areas[1]) / (1 + iou)
    smaller = np.minimum(*areas)
    return iou, np.divide(common, smaller, out=np.zeros_like(iou), where=smaller > 0)
