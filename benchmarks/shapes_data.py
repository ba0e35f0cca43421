"""The shapes data set: discs, rectangles, triangles, stars, and rings if wanted, on noisy backgrounds.

With four kinds it is bit for bit the set that the golden answers were made with: 1,200 pictures of seed
1 to train on, 60 of seed 2 to judge by.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_masks
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

NAMES = ("disc", "rectangle", "triangle", "star", "ring")
_LEAST_PIXELS = 40  # what is seen less of is not annotated


def make_shapes(
    count: int,
    root: Path,
    seed: int,
    name: str,
    *,
    kinds: int = 4,
    labelled: Sequence[str] | None = None,
) -> Path:
    """Write ``root/name/*.jpg`` and ``root/name.json`` in COCO's form; the JSON is returned.

    Args:
        count: pictures.
        kinds: how many of :data:`NAMES` are drawn.
        labelled: which of them are annotated; None: all that are drawn.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    wanted = NAMES[:kinds] if labelled is None else tuple(labelled)
    content: dict[str, list[Any]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": NAMES.index(n) + 1, "name": n} for n in wanted],
    }
    for i in range(count):
        picture, objects = _draw_picture(random, kinds)
        file_name = f"{i:05d}.jpg"
        picture.save(folder / file_name, quality=92)
        content["images"].append(
            {"id": i + 1, "file_name": file_name, "width": picture.width, "height": picture.height}
        )
        for kind, mask in objects:
            if mask.sum() < _LEAST_PIXELS or NAMES[kind] not in wanted:
                continue
            rle = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
            box = coco_masks.toBbox(rle).tolist()
            rle["counts"] = rle["counts"].decode()
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": i + 1,
                    "category_id": kind + 1,
                    "bbox": box,
                    "area": float(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": rle,
                }
            )
    path = root / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def _draw_picture(
    random: np.random.Generator, kinds: int
) -> tuple[Image.Image, list[tuple[int, NDArray[np.bool_]]]]:
    """A picture, and of each object its kind and the pixels that are seen of it."""
    width, height = int(random.integers(128, 257)), int(random.integers(128, 257))
    coarse = random.integers(0, 256, size=(height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8)
    background = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    background = background.filter(ImageFilter.GaussianBlur(2))
    pixels = np.asarray(background).astype(np.float32) * 0.6
    objects: list[tuple[int, NDArray[np.bool_]]] = []
    for _ in range(int(random.integers(1, 6))):
        size = int(random.integers(10, min(width, height) // 3))
        kind = int(random.integers(0, kinds))
        x = int(random.integers(size // 2, width - size // 2))
        y = int(random.integers(size // 2, height - size // 2))
        mask = _draw_shape(kind, (width, height), (x, y), size, float(random.uniform(0, 2 * np.pi)))
        pixels[mask] = random.integers(30, 256, 3).astype(np.float32)
        objects = [(k, m & ~mask) for k, m in objects] + [(kind, mask)]
    noisy = np.clip(pixels + random.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(noisy), objects


def _draw_shape(
    kind: int, frame: tuple[int, int], centre: tuple[int, int], size: int, angle: float
) -> NDArray[np.bool_]:
    (x, y), image = centre, Image.new("L", frame, 0)
    draw = ImageDraw.Draw(image)
    name = NAMES[kind]
    if name in ("disc", "ring"):
        draw.ellipse([x - size, y - size, x + size, y + size], fill=255)
        if name == "ring":
            hole = 0.55 * size
            draw.ellipse([x - hole, y - hole, x + hole, y + hole], fill=0)
    else:
        cos, sin = np.cos(angle), np.sin(angle)
        corners = [
            (x + size * (a * cos - b * sin), y + size * (a * sin + b * cos))
            for a, b in _corners(name)
        ]
        draw.polygon(corners, fill=255)
    return np.asarray(image) > 127


def _corners(name: str) -> list[tuple[float, float]]:
    """Of a shape of size 1 around the origin."""
    if name == "rectangle":
        return [(-1, -0.6), (1, -0.6), (1, 0.6), (-1, 0.6)]
    if name == "triangle":
        return [(0, -1), (0.87, 0.5), (-0.87, 0.5)]
    angles = np.linspace(0, 2 * np.pi, 11)[:-1]
    radii = [1.0 if i % 2 == 0 else 0.45 for i in range(10)]
    return [(np.cos(a) * r, np.sin(a) * r) for a, r in zip(angles, radii, strict=True)]
