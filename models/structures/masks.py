"""Bit masks, and run-length encoding of a mask straight from the crop around its box."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import pycocotools.mask as mask_api
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.structures.boxes import Boxes


class RLE(TypedDict):
    """A mask in COCO's compressed run-length encoding; ``size`` is [height, width]."""

    size: list[int]
    counts: str


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


def encode_rle_crop(
    bits: NDArray[np.bool_], *, left: int, top: int, height: int, width: int
) -> RLE:
    """COCO RLE of a ``height`` x ``width`` mask that is empty outside of a crop.

    Args:
        bits: (h, w) bool, the crop; its corner lies at column ``left``, row ``top``.

    The full frame is never made: COCO runs go down the columns, so the position of each crop pixel
    in the frame is computed and the runs are where positions stop being consecutive.
    """
    crop_height = bits.shape[0]
    foreground = np.flatnonzero(bits.T)
    if foreground.size == 0:
        counts = [height * width]
    else:
        column, row = np.divmod(foreground, crop_height)
        position = (column + left) * height + (row + top)
        breaks = np.flatnonzero(np.diff(position) != 1)
        starts = position[np.concatenate(([0], breaks + 1))]
        ends = position[np.concatenate((breaks, [len(position) - 1]))] + 1
        edges = np.empty(2 * len(starts) + 2, dtype=np.int64)
        edges[0], edges[-1] = 0, height * width
        edges[1:-1:2], edges[2:-1:2] = starts, ends
        counts = np.diff(edges).tolist()
        if counts[-1] == 0:
            counts.pop()
    encoded = mask_api.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}
