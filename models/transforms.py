"""The resize in front of a detector, as Detectron2's test loader does it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional as tv


def resized_size(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """(height, width) after the shorter side became ``min_size``, the longer at most ``max_size``.

    Both sides are then rounded half up. ``min_size`` 0 means no resize.
    """
    if min_size == 0:
        return height, width
    scale = min_size / min(height, width)
    new_height, new_width = (
        (float(min_size), scale * width) if height < width else (scale * height, float(min_size))
    )
    longer = max(new_height, new_width)
    if longer > max_size:
        scale = max_size / longer
        new_height, new_width = new_height * scale, new_width * scale
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) uint8 by Pillow's bilinear (antialiased) filter, bit-equal to Detectron2."""
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def resize_image_fast(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) uint8 by torchvision's antialiased bilinear filter, six times faster.

    It has weights of 16 bits where Pillow's have 22: some bytes (0.02 to 0.2 % in photographs, at
    most 2 % in noise) are one grey level off, none more. It runs on as many cores as the calling
    thread gives PyTorch's operators.
    """
    if image.shape[:2] == (height, width):
        return image
    # PyTorch's memory is written to by convention, so it warns of arrays that must not be; and it
    # has no negative strides.
    own = np.require(image, requirements=["C", "W"])
    # As (C, H, W) seen through the strides of the picture, which its fastest kernel wants.
    resized: torch.Tensor = tv.resize(
        torch.from_numpy(own).permute(2, 0, 1), [height, width], antialias=True
    )
    return resized.permute(1, 2, 0).numpy()
