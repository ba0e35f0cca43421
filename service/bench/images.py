"""The images of a benchmark: files of the user, or JPEGs made up the same way every time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, UnidentifiedImageError

from service.bench.errors import BenchError

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
}
PER_SIZE = 4
"""Different pictures of each size, so that a server which caches answers is not measured by that."""

# About as many bytes per pixel as a camera's JPEG of quality 90: 1.9 bits at 1080p.
_QUALITY = 90
_SENSOR_NOISE = 7.0


@dataclass(frozen=True)
class BenchImage:
    """An encoded image: its bytes are what is sent."""

    name: str
    data: bytes
    media_type: str
    width: int
    height: int


def load_images(paths: Sequence[Path]) -> list[BenchImage]:
    """The images at ``paths``; of a folder all that are images, by name, subfolders left out.

    Raises:
        BenchError: a file cannot be read or is no image; a folder holds none.
    """
    found: list[BenchImage] = []
    for path in paths:
        if path.is_dir():
            inside = [_read(file, strict=False) for file in sorted(path.iterdir())]
            usable = [image for image in inside if image is not None]
            if not usable:
                raise BenchError(f"There is no image in the folder {path}.")
            found += usable
        else:
            image = _read(path, strict=True)
            if image is not None:
                found.append(image)
    return found


def synthetic_images(
    sizes: Sequence[tuple[int, int]], *, per_size: int = PER_SIZE, seed: int = 0
) -> list[BenchImage]:
    """Made-up JPEGs of ``sizes`` (width, height), sizes taking turns; equal for an equal seed.

    They have the spectrum of photographs (noise that falls with frequency), a few plain shapes, and
    a sensor's noise, so that they cost a decoder what a photograph costs it.
    """
    images: list[BenchImage] = []
    for number in range(per_size):
        for width, height in sizes:
            picture = _picture(width, height, np.random.default_rng([seed, number, width, height]))
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=_QUALITY)
            name = f"{width}x{height}-{number + 1}.jpg"
            images.append(BenchImage(name, file.getvalue(), "image/jpeg", width, height))
    return images


def _read(path: Path, *, strict: bool) -> BenchImage | None:
    """The image in the file ``path``; one that is no image is None unless ``strict``."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            media_type = MEDIA_TYPES.get(image.format or "", "application/octet-stream")
            return BenchImage(path.name, data, media_type, image.width, image.height)
    except (UnidentifiedImageError, Image.DecompressionBombError):
        if strict:
            raise BenchError(f"{path} is not an image.") from None
    except OSError as error:
        if strict:
            raise BenchError(f"{path} cannot be read: {error.strerror or error}.") from None
    return None


def _picture(width: int, height: int, random: np.random.Generator) -> Image.Image:
    """(height, width) RGB: clouds, shapes, grain."""
    clouds = np.stack([_clouds(width, height, random) for _ in range(3)], axis=-1)
    # Channels of a photograph are much alike.
    mixed = 0.7 * clouds.mean(axis=-1, keepdims=True) + 0.3 * clouds
    picture = Image.fromarray((128 + 45 * mixed).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(5):
        side = int(random.uniform(0.08, 0.25) * min(width, height)) + 1
        left, top = int(random.integers(0, width)), int(random.integers(0, height))
        colour = tuple(int(value) for value in random.integers(30, 226, 3))
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape((left, top, left + side, top + side), fill=colour)
    grain = random.normal(0, _SENSOR_NOISE, (height, width, 3)).astype(np.float32)
    return Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))


def _clouds(width: int, height: int, random: np.random.Generator) -> NDArray[np.float32]:
    """(height, width) of about unit variance: noise of all scales, each half as fine half as strong."""
    total = np.zeros((height, width), dtype=np.float32)
    power, amplitude, cells = 0.0, 1.0, 2
    while cells <= max(2, width, height):
        rows = max(2, round(cells * height / max(width, height)))
        columns = max(2, round(cells * width / max(width, height)))
        coarse = Image.fromarray(random.standard_normal((rows, columns)).astype(np.float32))
        total += amplitude * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        power += amplitude**2
        amplitude, cells = amplitude / 2, cells * 2
    return (total / np.float32(power**0.5)).astype(np.float32)
