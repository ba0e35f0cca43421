"""The resize in front of a detector, as Detectron2's test loader does it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


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
