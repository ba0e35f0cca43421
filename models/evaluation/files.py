"""Files that evaluation reads: JSON within a size, names that stay in their folder, pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.evaluation.errors import EvaluationError
from models.files import open_regular

# Parsers of pixels only: Pillow's EPS parser, for one, starts another program.
PICTURE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What pictures may be; other parsers of Pillow are not started."""

_ORIENTATION = 0x0112
"""EXIF's tag; values from 5 on lay a picture on its side."""


def read_json(path: Path, *, max_bytes: int) -> dict[str, Any]:
    """The JSON object in a regular file of at most ``max_bytes``.

    Raises:
        EvaluationError: there is no such file, it is too large, or it holds something else.
    """
    try:
        with open_regular(path) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise EvaluationError(f"{path.name} cannot be read: {error.strerror}.") from None
    if len(data) > max_bytes:
        raise EvaluationError(
            f"{path.name} is over {max_bytes} bytes, the limit.", file=path.name, limit=max_bytes
        )
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise EvaluationError(f"{path.name} is no JSON: {reason[:200]}.", file=path.name) from None
    if not isinstance(content, dict):
        raise EvaluationError(f"{path.name} holds no JSON object.", file=path.name)
    return content


def path_inside(folder: Path, name: Any) -> Path:
    """The file ``name`` under ``folder``, symlinks resolved; whether it is there is not looked at.

    Args:
        folder: resolved already.
        name: relative to it, with slashes; any JSON value.

    Raises:
        EvaluationError: the name is none, or leads out of the folder.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise EvaluationError(f"{shown(name)} is no name of a file.")
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise EvaluationError(
            f"{shown(name)} leads out of the folder of images; names are relative to it, without '..'."
        )
    try:
        real = (folder / relative).resolve()
    except (OSError, RuntimeError):  # RuntimeError: links in a circle, before Python 3.13
        raise EvaluationError(f"{shown(name)} cannot be resolved.") from None
    if not real.is_relative_to(folder):
        raise EvaluationError(
            f"{shown(name)} is a link out of the folder of images; put the file itself there."
        )
    return real


@dataclass(frozen=True)
class PictureHeader:
    """What a picture's file says before its pixels.

    Attributes:
        height, width: in pixels, when it is upright.
        orientation: EXIF's, 1 to 8; 1 is upright, values from 5 on lay it on its side.
        mode: Pillow's, such as ``RGB``.
    """

    height: int
    width: int
    orientation: int
    mode: str

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) of the pixels as they lie in the file."""
        lies_on_side = self.orientation in range(5, 9)
        return (self.width, self.height) if lies_on_side else (self.height, self.width)

    @property
    def is_deep(self) -> bool:
        """Whether it has more than 8 bits a channel."""
        return self.mode.startswith(("I", "F"))


def read_header(path: Path) -> PictureHeader:
    """A picture's size and kind; its pixels are not looked at.

    Args:
        path: a BMP, GIF, JPEG, PNG, TIFF or WebP.

    Raises:
        EvaluationError: it is none of these, or its beginning is broken.
    """
    try:
        with open_regular(path) as file, Image.open(file, formats=PICTURE_FORMATS) as image:
            return _header(image)
    except Exception as error:  # whatever Pillow's parsers raise on broken files
        raise _unreadable(path, error) from error


def read_picture(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """A picture's pixels, (H, W, 3) uint8 RGB, writable and C-contiguous.

    An EXIF orientation is applied, as by Detectron2's data loader and by the service: annotation
    tools show pictures upright and write down the upright size.

    Args:
        path: a BMP, GIF (its first frame), JPEG, PNG, TIFF or WebP.
        size: (height, width) that it must have.

    Raises:
        EvaluationError: it cannot be read, has more than 8 bits a channel, or another size.
    """
    try:
        with open_regular(path) as file, Image.open(file, formats=PICTURE_FORMATS) as image:
            header = _header(image)
            fits = size is None or (header.height, header.width) == size
            is_wanted = fits and not header.is_deep
            pixels = np.array(ImageOps.exif_transpose(image).convert("RGB")) if is_wanted else None
    except Exception as error:  # whatever Pillow's parsers raise on broken files
        raise _unreadable(path, error) from error
    if pixels is not None:
        return pixels
    if size is None or fits:
        raise EvaluationError(
            f"{path.name} has mode {header.mode}, more than 8 bits a channel; convert it to 8 bits first.",
            file=path.name,
        )
    hint = " without its EXIF orientation; turn the picture or its annotations"
    raise EvaluationError(
        f"{path.name} is {header.width}x{header.height} pixels, but should be {size[1]}x{size[0]}"
        f"{hint if header.stored_size == size else ''}.",
        file=path.name,
        width=header.width,
        height=header.height,
    )


def _header(image: Image.Image) -> PictureHeader:
    orientation = image.getexif().get(_ORIENTATION, 1)
    turned = orientation in range(5, 9)
    height, width = (image.width, image.height) if turned else (image.height, image.width)
    return PictureHeader(height, width, orientation, image.mode)


def _unreadable(path: Path, error: Exception) -> EvaluationError:
    return EvaluationError(
        f"{path.name} cannot be read as a picture: {type(error).__name__}. Check that the whole "
        "file is there, or save it anew as JPEG or PNG.",
        file=path.name,
    )


def shown(value: Any) -> str:
    """A value from a file as a message may show it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
