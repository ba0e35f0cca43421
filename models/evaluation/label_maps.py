"""Pictures whose pixels are numbers: class ids of a semantic map, segment ids of a panoptic one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.evaluation.errors import EvaluationError
from models.files import open_regular

_IDS = ("L", "P", "I;16", "I;16B", "I")
"""Pillow's modes of one channel of 8 or 16 bits; P is the places in a palette, its colours are not
looked at."""


def read_class_ids(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.int64]:
    """A semantic map, (H, W) class ids: a PNG of one channel.

    Args:
        path: the PNG.
        size: (height, width) that it must have.

    Raises:
        EvaluationError: it cannot be read, has colours, or another size.
    """
    pixels, mode = _pixels(path, size)
    if mode not in _IDS:
        raise EvaluationError(
            f"{path.name} has mode {mode}; a label map has one channel, whose values are class ids. "
            "Write the ids themselves, not the colours of the classes.",
            file=path.name,
        )
    return pixels.astype(np.int64)


def read_segment_ids(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.int64]:
    """A panoptic map as COCO has it, (H, W) segment ids: R + 256 G + 65,536 B of a PNG; 0 is void.

    Args:
        path: the PNG.
        size: (height, width) that it must have.

    Raises:
        EvaluationError: it cannot be read, is not RGB, or has another size.
    """
    pixels, mode = _pixels(path, size)
    if mode != "RGB":
        raise EvaluationError(
            f"{path.name} has mode {mode}; COCO's panoptic maps are RGB, with R + 256 G + 65536 B for "
            "the id of the segment.",
            file=path.name,
        )
    ids: NDArray[np.int64] = pixels.astype(np.int64) @ np.array([1, 256, 65_536])
    return ids


def _pixels(path: Path, size: tuple[int, int] | None) -> tuple[NDArray[np.generic], str]:
    """Pixels and Pillow's mode."""
    try:
        with open_regular(path) as file, Image.open(file, formats=("PNG",)) as image:
            found, mode = (image.height, image.width), image.mode
            # Of another size there is nothing to read, however large it says it is.
            pixels = np.array(image) if size in (None, found) else None
    except Exception as error:  # whatever Pillow's parser raises on broken files
        raise EvaluationError(
            f"{path.name} cannot be read as a PNG: {type(error).__name__}. Check that the whole file is "
            "there; other formats change the numbers.",
            file=path.name,
        ) from error
    if pixels is None:
        assert size is not None, "without a size everything was read"
        raise EvaluationError(
            f"{path.name} is {found[1]}x{found[0]} pixels, its picture {size[1]}x{size[0]}; a map has a "
            "number for each pixel of the picture.",
            file=path.name,
        )
    return pixels, mode
