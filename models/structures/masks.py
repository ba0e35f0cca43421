"""Bit masks: one bool per pixel of the image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from models.structures.boxes import Boxes


class BitMasks:
    """R masks of one image as one bool tensor (R, H, W)."""

    def __init__(self, tensor: Tensor) -> None:
        if tensor.dim() != 3:
            raise ValueError(f"BitMasks need shape (R, H, W), got {tuple(tensor.shape)}.")
        self.tensor = tensor.to(torch.bool)
        self.image_size = (tensor.shape[1], tensor.shape[2])

    def to(self, device: torch.device | str) -> BitMasks:
        """The masks on ``device``."""
        return BitMasks(self.tensor.to(device))

    def nonempty(self) -> Tensor:
        """(R,) bool: has at least one pixel."""
        return self.tensor.flatten(1).any(dim=1)

    def get_bounding_boxes(self) -> Boxes:
        """Tight boxes in XYXY pixels; an empty mask gives a box of zeros."""
        boxes = torch.zeros(len(self), 4)
        for i, mask in enumerate(self.tensor):
            rows, columns = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
            if len(rows):
                corners = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
                boxes[i] = torch.tensor(corners, dtype=torch.float32)
        return Boxes(boxes)

    @staticmethod
    def cat(bitmasks_list: list[BitMasks]) -> BitMasks:
        """One object with the masks of all."""
        return BitMasks(torch.cat([masks.tensor for masks in bitmasks_list], dim=0))

    def __getitem__(self, item: int | slice | Tensor) -> BitMasks:
        if isinstance(item, int):
            return BitMasks(self.tensor[item].unsqueeze(0))
        return BitMasks(self.tensor[item])

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.tensor

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"BitMasks({len(self)} of {self.image_size[0]}x{self.image_size[1]})"
