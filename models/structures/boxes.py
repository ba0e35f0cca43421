"""Axis-aligned boxes in absolute XYXY pixel coordinates."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class Boxes:
    """R boxes as one float32 tensor of shape (R, 4), each (x1, y1, x2, y2) in pixels.

    Indexing with an int gives one box (still shape (1, 4)), a slice, or a bool or index tensor a
    selection. Operations that change the boxes in place say so.
    """

    def __init__(self, tensor: Tensor) -> None:
        if not torch.is_floating_point(tensor):
            tensor = tensor.to(torch.float32)
        elif tensor.dtype != torch.float32:
            tensor = tensor.float()
        if tensor.numel() == 0:
            tensor = tensor.reshape((-1, 4))
        if tensor.dim() != 2 or tensor.shape[1] != 4:
            raise ValueError(f"Boxes need shape (R, 4), got {tuple(tensor.shape)}.")
        self.tensor = tensor

    def clone(self) -> Boxes:
        """A copy that shares no memory."""
        return Boxes(self.tensor.clone())

    def to(self, device: torch.device | str) -> Boxes:
        """The boxes on ``device``."""
        return Boxes(self.tensor.to(device))

    def area(self) -> Tensor:
        """Areas, (R,), in square pixels."""
        width_height = self.tensor[:, 2:] - self.tensor[:, :2]
        return width_height[:, 0] * width_height[:, 1]

    def clip(self, box_size: tuple[int, int]) -> None:
        """Clip in place to an image of ``box_size`` = (height, width). Raises on NaN or infinity."""
        if not torch.isfinite(self.tensor).all():
            raise ValueError("Boxes to clip hold NaN or infinite coordinates.")
        height, width = box_size
        x1 = self.tensor[:, 0].clamp(min=0, max=width)
        y1 = self.tensor[:, 1].clamp(min=0, max=height)
        x2 = self.tensor[:, 2].clamp(min=0, max=width)
        y2 = self.tensor[:, 3].clamp(min=0, max=height)
        self.tensor = torch.stack((x1, y1, x2, y2), dim=-1)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """(R,) bool: both sides strictly longer than ``threshold`` pixels."""
        widths = self.tensor[:, 2] - self.tensor[:, 0]
        heights = self.tensor[:, 3] - self.tensor[:, 1]
        return (widths > threshold) & (heights > threshold)

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply coordinates in place."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    def get_centers(self) -> Tensor:
        """Centres (x, y), (R, 2)."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    @property
    def device(self) -> torch.device:
        """Where the boxes live."""
        return self.tensor.device

    @classmethod
    def cat(cls, boxes_list: list[Boxes]) -> Boxes:
        """One ``Boxes`` of all, in order."""
        if not boxes_list:
            return cls(torch.empty(0, 4))
        return cls(torch.cat([boxes.tensor for boxes in boxes_list], dim=0))

    def __getitem__(self, item: int | slice | Tensor) -> Boxes:
        if isinstance(item, int):
            return Boxes(self.tensor[item].view(1, -1))
        return Boxes(self.tensor[item])

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.tensor

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Intersection areas of all pairs, (R1, R2), in square pixels."""
    first, second = boxes1.tensor[:, None], boxes2.tensor
    sides = torch.min(first[..., 2:], second[:, 2:]) - torch.max(first[..., :2], second[:, :2])
    return sides.clamp_(min=0).prod(dim=2)


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Intersection over union of all pairs, (R1, R2); 0 where boxes do not meet."""
    intersection = pairwise_intersection(boxes1, boxes2)
    union = boxes1.area()[:, None] + boxes2.area() - intersection
    return torch.where(intersection > 0, intersection / union, intersection.new_zeros(()))
