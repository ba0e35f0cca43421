"""A large picture of validation pictures of the shapes, edge to edge."""

import io
import json

import numpy as np
from coco_ap import DATA
from numpy.typing import NDArray
from PIL import Image

SIDE = 160
"""Of each picture in the large one: the embedded model sees it pixel by pixel."""


def pasted_pictures(columns: int, rows: int, *, first: int = 0) -> NDArray[np.uint8]:
    """(rows x SIDE, columns x SIDE, 3): pictures row by row, resized to squares.

    Args:
        columns, rows: of pictures.
        first: index of the first one in the validation set.
    """
    images = json.loads((DATA / "val.json").read_text())["images"]
    canvas = np.zeros((rows * SIDE, columns * SIDE, 3), dtype=np.uint8)
    for i in range(columns * rows):
        top, left = i // columns * SIDE, i % columns * SIDE
        with Image.open(DATA / "val" / images[first + i]["file_name"]) as image:
            canvas[top : top + SIDE, left : left + SIDE] = image.convert("RGB").resize((SIDE, SIDE))
    return canvas


def png(pixels: NDArray[np.uint8]) -> bytes:
    """An image file of it, without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
