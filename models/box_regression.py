"""How a network's four numbers move and scale one box into another."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SCALE_CLAMP = math.log(1000.0 / 16)
"""A box may grow by this factor at most (log): without a bound a wild delta overflows exp."""


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
