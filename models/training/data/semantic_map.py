"""A picture's map of semantic classes, a PNG with the class of each pixel as its value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.files import open_regular
from models.training.data.errors import DataError

_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
"""Pillow's names for one whole number a pixel; of a palette the index is the class."""


def read_semantic_map(path: Path, size: tuple[int, int]) -> Tensor:
    """(H, W) int32 classes.

    Args:
        path: of a PNG.
        size: (height, width) that it must have, those of its picture.

    Raises:
        DataError: it cannot be read, has colours, or has another size.
    """
    try:
        with open_regular(path) as file, Image.open(file, formats=("PNG",)) as image:
            mode, found = image.mode, (image.height, image.width)
            fits = mode in _MODES and found == size
            values = np.array(image).astype(np.int32) if fits else None
    except Exception as error:  # whatever Pillow's parsers raise on broken files
        raise DataError(
            f"{path.name} cannot be read as a map of classes: {type(error).__name__}. It is a PNG with "
            "the class of each pixel.",
            file=path.name,
        ) from error
    if values is not None:
        return torch.from_numpy(values)
    if mode not in _MODES:
        raise DataError(
            f"{path.name} has mode {mode}; a map of classes has one number a pixel (grey or palette).",
            file=path.name,
        )
    raise DataError(
        f"{path.name} is {found[1]}x{found[0]} pixels, but its picture {size[1]}x{size[0]}.",
        file=path.name,
        width=found[1],
        height=found[0],
    )
