"""Rotated boxes in absolute pixel coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from models.layers.rotated_iou import enclosing_boxes
from models.layers.rotated_iou import pairwise_iou_rotated as pairwise_iou_of_tensors


def normalize_degrees(angles: Tensor) -> Tensor:
    """The same directions in [-180, 180)."""
    normalized = (angles + 180) % 360 - 180
    # A tiny negative number modulo 360 rounds to 360 itself.
    return torch.where(normalized >= 180, normalized - 360, normalized)


class RotatedBoxes:
    """R boxes as one float32 tensor of shape (R, 5), each (x_ctr, y_ctr, w, h, angle).

    Centre, width and height are in pixels. The angle is in degrees: the box turns
    counter-clockwise, as one sees it on a screen where y points down, around its centre. Angles
    that differ by 360, and for the area that a box covers by 180, mean the same box
    (Detectron2, documentation of ``RotatedBoxes``).

    Indexing works as for :class:`Boxes`. Operations that change the boxes in place say so.
    """

    def __init__(self, tensor: Tensor) -> None:
        tensor = tensor.to(torch.float32)
        if tensor.numel() == 0:
            tensor = tensor.reshape((-1, 5))
        if tensor.dim() != 2 or tensor.shape[1] != 5:
            raise ValueError(f"RotatedBoxes need shape (R, 5), got {tuple(tensor.shape)}.")
        self.tensor = tensor

    def clone(self) -> RotatedBoxes:
        """A copy that shares no memory."""
        return RotatedBoxes(self.tensor.clone())

    def to(self, device: torch.device | str) -> RotatedBoxes:
        """The boxes on ``device``."""
        return RotatedBoxes(self.tensor.to(device))

    def area(self) -> Tensor:
        """Areas, (R,), in square pixels."""
        return self.tensor[:, 2] * self.tensor[:, 3]

    def normalize_angles(self) -> None:
        """Bring angles into [-180, 180), in place."""
        self.tensor[:, 4] = normalize_degrees(self.tensor[:, 4])

    def clip(self, box_size: tuple[int, int], clip_angle_threshold: float = 1.0) -> None:
        """Clip near-horizontal boxes to an image and normalise all angles, in place.

        What is left of a box that lies at an angle is no rectangle; so only boxes with an angle of
        at most ``clip_angle_threshold`` degrees are clipped, as if they had none. The others may
        leave the image, as in Detectron2.

        Args:
            box_size: (height, width) of the image.
            clip_angle_threshold: in degrees; negative clips nothing.
        """
        self.normalize_angles()
        height, width = box_size
        centers, sides = self.tensor[:, :2], self.tensor[:, 2:4]
        limit = centers.new_tensor([width, height])
        low = torch.minimum((centers - sides / 2).clamp(min=0), limit)
        high = torch.minimum((centers + sides / 2).clamp(min=0), limit)
        clipped = self.tensor.clone()
        clipped[:, :2] = (low + high) / 2
        clipped[:, 2:4] = torch.minimum(sides, high - low)  # rounding must not make a box larger
        horizontal = self.tensor[:, 4].abs() <= clip_angle_threshold
        self.tensor = torch.where(horizontal[:, None], clipped, self.tensor)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """(R,) bool: both sides strictly longer than ``threshold`` pixels."""
        return (self.tensor[:, 2] > threshold) & (self.tensor[:, 3] > threshold)

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> Tensor:
        """(R,) bool: every corner lies in an image, or less than a number of pixels outside.

        Args:
            box_size: (height, width) of the image.
            boundary_threshold: how far, in pixels, a corner may lie outside.
        """
        height, width = box_size
        x1, y1, x2, y2 = enclosing_boxes(self.tensor).unbind(1)
        return (
            (x1 >= -boundary_threshold)
            & (y1 >= -boundary_threshold)
            & (x2 < width + boundary_threshold)
            & (y2 < height + boundary_threshold)
        )

    def get_centers(self) -> Tensor:
        """Centres (x, y), (R, 2)."""
        return self.tensor[:, :2]

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Scale with the image that the boxes lie in, in place.

        With different factors a turned rectangle becomes a parallelogram. Each side is scaled by
        what happens to its own direction and the box gets the new direction of its height, as in
        Detectron2; with equal factors, or at multiples of 90 degrees, nothing is lost.
        """
        self.tensor[:, 0] *= scale_x
        self.tensor[:, 1] *= scale_y
        radians = self.tensor[:, 4] * (math.pi / 180)
        cos, sin = radians.cos(), radians.sin()
        self.tensor[:, 2] *= torch.sqrt((scale_x * cos) ** 2 + (scale_y * sin) ** 2)
        self.tensor[:, 3] *= torch.sqrt((scale_x * sin) ** 2 + (scale_y * cos) ** 2)
        self.tensor[:, 4] = torch.atan2(scale_x * sin, scale_y * cos) * (180 / math.pi)

    def polygons(self) -> Tensor:
        """Corner points (x, y), (R, 4, 2), in pixels.

        At angle 0 they are top left, top right, bottom right, bottom left; they turn with the box.
        """
        center, sides = self.tensor[:, None, :2], self.tensor[:, None, 2:4]
        around = self.tensor.new_tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        local_x, local_y = (around * sides).unbind(2)
        radians = self.tensor[:, 4:] * (math.pi / 180)
        cos, sin = radians.cos(), radians.sin()
        turned = torch.stack((local_x * cos + local_y * sin, local_y * cos - local_x * sin), dim=2)
        return center + turned

    @property
    def device(self) -> torch.device:
        """Where the boxes live."""
        return self.tensor.device

    @classmethod
    def cat(cls, boxes_list: list[RotatedBoxes]) -> RotatedBoxes:
        """One ``RotatedBoxes`` of all, in order."""
        if not boxes_list:
            return cls(torch.empty(0, 5))
        return cls(torch.cat([boxes.tensor for boxes in boxes_list], dim=0))

    def __getitem__(self, item: int | slice | Tensor) -> RotatedBoxes:
        if isinstance(item, int):
            return RotatedBoxes(self.tensor[item].view(1, -1))
        return RotatedBoxes(self.tensor[item])

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.tensor

    def __repr__(self) -> str:
        return f"RotatedBoxes({self.tensor})"


def pairwise_iou_rotated(boxes1: RotatedBoxes, boxes2: RotatedBoxes) -> Tensor:
    """Intersection over union of all pairs, (R1, R2) float32; 0 where boxes do not meet."""
    return pairwise_iou_of_tensors(boxes1.tensor, boxes2.tensor)
