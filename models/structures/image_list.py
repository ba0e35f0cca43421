"""Images of different sizes in one padded tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class ImageList:
    """N images as one tensor (N, C, Hmax, Wmax), with the size that each had before padding.

    Attributes:
        tensor: the padded images.
        image_sizes: per image its (height, width) without padding.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, index: int) -> Tensor:
        """Image ``index`` without its padding, (C, H, W)."""
        height, width = self.image_sizes[index]
        return self.tensor[index, ..., :height, :width]

    @property
    def device(self) -> torch.device:
        """Where the images live."""
        return self.tensor.device

    def to(self, device: torch.device | str) -> ImageList:
        """The images on ``device``."""
        return ImageList(self.tensor.to(device), self.image_sizes)

    @staticmethod
    def padded_size(
        image_sizes: Sequence[tuple[int, int]], size_divisibility: int = 0
    ) -> tuple[int, int]:
        """(height, width) that images of these sizes are padded to when they share a batch."""
        height = max(size[0] for size in image_sizes)
        width = max(size[1] for size in image_sizes)
        if size_divisibility > 1:
            height = -(-height // size_divisibility) * size_divisibility
            width = -(-width // size_divisibility) * size_divisibility
        return height, width

    @staticmethod
    def from_tensors(
        tensors: Sequence[Tensor], size_divisibility: int = 0, pad_value: float = 0.0
    ) -> ImageList:
        """Pad (C, H, W) images at the bottom and the right to a common size and stack them.

        The common size is the largest height and width, rounded up to ``size_divisibility``.
        """
        if not tensors:
            raise ValueError("ImageList.from_tensors needs at least one image.")
        image_sizes = [(tensor.shape[-2], tensor.shape[-1]) for tensor in tensors]
        height, width = ImageList.padded_size(image_sizes, size_divisibility)
        padded = [
            F.pad(
                tensor, (0, width - tensor.shape[-1], 0, height - tensor.shape[-2]), value=pad_value
            )
            for tensor in tensors
        ]
        return ImageList(torch.stack(padded).contiguous(), image_sizes)
