"""The views of test-time augmentation: how they are made of a picture, and how boxes get there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import Config
from models.configurable import configurable
from models.transforms import resize_image, resized_size


@dataclass(frozen=True)
class View:
    """How one view was made of the picture.

    Attributes:
        original_size: (height, width) that the answer is wanted in.
        size: (height, width) of the view.
        flip: whether it is mirrored, left for right.
    """

    original_size: tuple[int, int]
    size: tuple[int, int]
    flip: bool

    def _scales(self, boxes: Tensor) -> Tensor:
        x = self.size[1] / self.original_size[1]
        y = self.size[0] / self.original_size[0]
        return boxes.new_tensor([x, y, x, y])

    def _mirror(self, boxes: Tensor) -> Tensor:
        if not self.flip:
            return boxes
        x1, y1, x2, y2 = boxes.unbind(dim=1)
        return torch.stack((self.size[1] - x2, y1, self.size[1] - x1, y2), dim=1)

    def apply_box(self, boxes: Tensor) -> Tensor:
        """Boxes (R, 4) of the picture, in pixels of the view."""
        return self._mirror(boxes * self._scales(boxes))

    def inverse_box(self, boxes: Tensor) -> Tensor:
        """Boxes (R, 4) of the view, in pixels of the picture."""
        return self._mirror(boxes) / self._scales(boxes)


class DatasetMapperTTA:
    """Makes the views of an image.

    Args:
        min_sizes: short sides to resize to.
        max_size: bound of the long side.
        flip: whether each view also comes mirrored.
    """

    @configurable
    def __init__(self, min_sizes: Sequence[int], max_size: int, flip: bool) -> None:
        self.min_sizes = list(min_sizes)
        self.max_size = max_size
        self.flip = flip

    @classmethod
    def from_config(cls, cfg: Config) -> dict[str, Any]:
        """Keywords from ``cfg.TEST.AUG``."""
        aug = cfg.TEST.AUG
        return {"min_sizes": aug.MIN_SIZES, "max_size": aug.MAX_SIZE, "flip": aug.FLIP}

    def __call__(self, dataset_dict: dict[str, Any]) -> list[dict[str, Any]]:
        """The views of ``image`` (C, H, W), smallest first, each plain and then mirrored.

        A uint8 image is resized by Pillow's antialiased filter, any other by interpolation without
        antialiasing, as in Detectron2. The views have ``view`` (:class:`View`) besides what the
        input has.
        """
        image: Tensor = dataset_dict["image"]
        height, width = image.shape[-2:]
        original = (dataset_dict.get("height", height), dataset_dict.get("width", width))
        views = []
        for min_size in self.min_sizes:
            size = resized_size(height, width, min_size, self.max_size)
            resized = _resize(image, size)
            for flip in (False, True) if self.flip else (False,):
                pixels = resized.flip(dims=[-1]) if flip else resized
                view = View(original, size, flip)
                views.append({**dataset_dict, "image": pixels, "view": view})
        return views


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    if image.dtype == torch.uint8:
        array = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
        return torch.from_numpy(np.array(resize_image(array, *size).transpose(2, 0, 1), order="C"))
    resized = F.interpolate(image[None].float(), size=size, mode="bilinear", align_corners=False)
    return resized[0].to(image.dtype)
