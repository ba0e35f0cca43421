"""Rotated boxes as points, so that they go wherever a picture goes."""

from __future__ import annotations

import torch
from torch import Tensor


def rotated_to_points(boxes: Tensor) -> Tensor:
    """Each box's centre, the middle of its right side and the middle of its lower one.

    Args:
        boxes: (G, 5) centre x, y, width, height, angle in degrees.

    Returns:
        (G, 3, 2) x, y in pixels.
    """
    centers, halves, angles = boxes[:, :2], boxes[:, 2:4] / 2, boxes[:, 4].deg2rad()
    cos, sin = angles.cos(), angles.sin()
    along_width = torch.stack((cos, -sin), dim=1) * halves[:, :1]
    along_height = torch.stack((sin, cos), dim=1) * halves[:, 1:]
    return torch.stack((centers, centers + along_width, centers + along_height), dim=1)


def points_to_rotated(points: Tensor) -> Tensor:
    """The boxes that such points are of, wherever these went.

    Where a picture was scaled differently in height and width, a box is no rectangle any more: as in
    Detectron2 each side then has the length of what became of it, and the angle is that of the height.

    Args:
        points: (G, 3, 2), see :func:`rotated_to_points`.

    Returns:
        (G, 5) centre x, y, width, height, angle in degrees.
    """
    centers = points[:, 0]
    along_width, along_height = points[:, 1] - centers, points[:, 2] - centers
    sides = 2 * torch.stack((along_width.norm(dim=1), along_height.norm(dim=1)), dim=1)
    angles = torch.atan2(along_height[:, 0], along_height[:, 1]).rad2deg()
    return torch.cat((centers, sides, angles[:, None]), dim=1)
