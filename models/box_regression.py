"""How a network's numbers move, scale and turn one box into another."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from models.structures.rotated_boxes import normalize_degrees

SCALE_CLAMP = math.log(1000.0 / 16)
"""A box may grow by this factor at most (log): without a bound a wild delta overflows exp."""


class BoxTransform(Protocol):
    """What all transforms of this file do, for boxes and deltas of their own kinds."""

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Deltas that turn source boxes into target boxes."""
        ...

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Boxes moved by deltas."""
        ...


class Box2BoxTransform:
    """Deltas (dx, dy, dw, dh) between boxes (Girshick et al. 2014, R-CNN, appendix C).

    The centre moves by (dx * width, dy * height), the sides grow by exp(dw), exp(dh).

    Args:
        weights: deltas are divided by these before use, so that the network learns numbers of
            about unit variance.
        scale_clamp: upper bound of dw and dh after division.
    """

    def __init__(
        self, weights: tuple[float, float, float, float], scale_clamp: float = SCALE_CLAMP
    ) -> None:
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Deltas (R, 4) that turn ``src_boxes`` (R, 4) into ``target_boxes`` (R, 4).

        Raises:
            ValueError: a source box has no width or height.
        """
        src_sides = src_boxes[:, 2:] - src_boxes[:, :2]
        src_centers = src_boxes[:, :2] + 0.5 * src_sides
        target_sides = target_boxes[:, 2:] - target_boxes[:, :2]
        target_centers = target_boxes[:, :2] + 0.5 * target_sides
        if not (src_sides > 0).all():
            raise ValueError("Source boxes of Box2BoxTransform need a positive width and height.")
        moves = (target_centers - src_centers) / src_sides
        grows = torch.log(target_sides / src_sides)
        return torch.cat((moves, grows), dim=1) * src_boxes.new_tensor(self.weights)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Apply ``deltas`` (R, k * 4) to ``boxes`` (R, 4): (R, k * 4) boxes, k per source box."""
        deltas = deltas.float()  # half precision would lose whole pixels on large images
        boxes = boxes.to(deltas.dtype)
        widths = boxes[:, 2] - boxes[:, 0]
        heights = boxes[:, 3] - boxes[:, 1]
        center_x = boxes[:, 0] + 0.5 * widths
        center_y = boxes[:, 1] + 0.5 * heights
        wx, wy, ww, wh = self.weights
        dx = deltas[:, 0::4] / wx
        dy = deltas[:, 1::4] / wy
        dw = torch.clamp(deltas[:, 2::4] / ww, max=self.scale_clamp)
        dh = torch.clamp(deltas[:, 3::4] / wh, max=self.scale_clamp)
        new_center_x = dx * widths[:, None] + center_x[:, None]
        new_center_y = dy * heights[:, None] + center_y[:, None]
        new_width = torch.exp(dw) * widths[:, None]
        new_height = torch.exp(dh) * heights[:, None]
        moved = torch.stack(
            (
                new_center_x - 0.5 * new_width,
                new_center_y - 0.5 * new_height,
                new_center_x + 0.5 * new_width,
                new_center_y + 0.5 * new_height,
            ),
            dim=-1,
        )
        return moved.reshape(deltas.shape)


class Box2BoxTransformRotated:
    """Deltas (dx, dy, dw, dh, da) between rotated boxes (x_ctr, y_ctr, w, h, angle).

    The centre moves by (dx * width, dy * height) along the image's axes, not the box's; the sides
    grow by exp(dw), exp(dh); the box turns by da. Angles of deltas are in radians, those of boxes
    in degrees (Ma et al. 2018, RRPN; Detectron2's documentation).

    Args:
        weights: deltas are divided by these before use.
        scale_clamp: upper bound of dw and dh after division.
    """

    def __init__(
        self,
        weights: tuple[float, float, float, float, float],
        scale_clamp: float = SCALE_CLAMP,
    ) -> None:
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Deltas (R, 5) that turn ``src_boxes`` (R, 5) into ``target_boxes`` (R, 5).

        The turn is the shorter way round, at most half a turn.

        Raises:
            ValueError: a source box has no width or height.
        """
        src_sides = src_boxes[:, 2:4]
        if not (src_sides > 0).all():
            raise ValueError(
                "Source boxes of Box2BoxTransformRotated need a positive width and height."
            )
        moves = (target_boxes[:, :2] - src_boxes[:, :2]) / src_sides
        grows = torch.log(target_boxes[:, 2:4] / src_sides)
        turns = normalize_degrees(target_boxes[:, 4:] - src_boxes[:, 4:]) * (math.pi / 180)
        return torch.cat((moves, grows, turns), dim=1) * src_boxes.new_tensor(self.weights)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Apply ``deltas`` (R, k * 5) to ``boxes`` (R, 5).

        Returns:
            (R, k * 5) float32 boxes, k per source box, with angles in [-180, 180).
        """
        shape = deltas.shape
        deltas = deltas.float()  # half precision would lose whole pixels on large images
        sources = boxes.to(deltas.dtype)[:, None, :]  # (R, 1, 5)
        deltas = deltas.reshape(len(boxes), shape[1] // 5, 5) / deltas.new_tensor(self.weights)
        centers = deltas[..., :2] * sources[..., 2:4] + sources[..., :2]
        sides = torch.exp(deltas[..., 2:4].clamp(max=self.scale_clamp)) * sources[..., 2:4]
        angles = normalize_degrees(deltas[..., 4:] * (180 / math.pi) + sources[..., 4:])
        return torch.cat((centers, sides, angles), dim=2).reshape(shape)


class Box2BoxTransformLinear:
    """Distances from the centre of a square source box to the four sides of the target (FCOS).

    Args:
        normalize_by_size: distances are in units of the source box's side.
    """

    def __init__(self, normalize_by_size: bool = True) -> None:
        self.normalize_by_size = normalize_by_size

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Distances (R, 4) left, top, right, bottom; negative when the centre lies outside."""
        centers = 0.5 * (src_boxes[:, :2] + src_boxes[:, 2:])
        deltas = torch.cat((centers - target_boxes[:, :2], target_boxes[:, 2:] - centers), dim=1)
        if self.normalize_by_size:
            deltas = deltas / (src_boxes[:, 2:3] - src_boxes[:, 0:1])
        return deltas

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Apply ``deltas`` (R, k * 4), of which negative ones count as 0, to ``boxes`` (R, 4)."""
        deltas = torch.relu(deltas.float())
        boxes = boxes.to(deltas.dtype)
        if self.normalize_by_size:
            deltas = deltas * (boxes[:, 2:3] - boxes[:, 0:1])
        centers = 0.5 * (boxes[:, :2] + boxes[:, 2:])
        distances = deltas.view(len(boxes), deltas.shape[1] // 4, 4)
        low = centers[:, None] - distances[..., :2]
        high = centers[:, None] + distances[..., 2:]
        return torch.cat((low, high), dim=2).reshape(deltas.shape)
