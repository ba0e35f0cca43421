"""Pictures of a caller, in the ways that Python has them: as bytes to send, and as one to draw on."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
"""A path, the bytes of an image file, a Pillow image, or an (H, W, 3) uint8 RGB array.

Of files the orientation in their EXIF counts, as a viewer shows them; images and arrays are taken as
their pixels lie.
"""

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


def read_image(source: ImageSource, index: int = 0) -> tuple[str, bytes, str]:
    """Name, bytes and content type to send; pixels are sent as PNG, which keeps them exactly.

    Args:
        index: place among the images, from 0; names those that have no name.

    Raises:
        OSError: a file cannot be read.
        TypeError, ValueError: it is no picture; the message says what to give.
    """
    name = "image" if index == 0 else f"image-{index + 1}"
    if isinstance(source, bytes):
        return name, source, "application/octet-stream"
    if isinstance(source, str | os.PathLike):
        if isinstance(source, str) and source.startswith(("http://", "https://", "data:")):
            raise ValueError(f"{source[:80]!r} is a URL; give a path, or the bytes of the image.")
        path = Path(source)
        return path.name, path.read_bytes(), "application/octet-stream"
    picture = source if isinstance(source, Image.Image) else _of_array(source)
    if picture.mode not in _PNG_MODES:
        picture = picture.convert("RGB")
    file = io.BytesIO()
    # Little compression: more takes many times as long for a few percent.
    picture.save(file, "PNG", compress_level=1, exif=b"")
    return f"{name}.png", file.getvalue(), "image/png"


def open_picture(source: ImageSource) -> Image.Image:
    """The picture as RGB, with the pixels that the server's answer is about.

    Raises:
        OSError: a file cannot be read, or is no image.
        TypeError, ValueError: as :func:`read_image`.
    """
    if isinstance(source, bytes | str | os.PathLike):
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    return (source if isinstance(source, Image.Image) else _of_array(source)).convert("RGB")


def _of_array(array: object) -> Image.Image:
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"An image is a path, bytes, a Pillow image or a NumPy array, not {type(array).__name__}."
        )
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"An array of an image is (height, width, 3) RGB, not {array.shape}.")
    if array.dtype != np.uint8:
        raise ValueError(f"An array of an image is uint8, 0 to 255, not {array.dtype}.")
    return Image.fromarray(np.ascontiguousarray(array))
