"""What a data set holds, in numbers: pictures, objects of each class, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_api

from models.training.data.dataset import TrainingDataset, TrainingObject

SMALL_AREA, LARGE_AREA = 32**2, 96**2
"""Pixels: COCO's bounds of medium objects."""


@dataclass(frozen=True)
class DataFigures:
    """Counts of one data set; objects are those that are learned from, so crowds are apart.

    Attributes:
        name: of the data set.
        images: pictures.
        empty_images: those without objects.
        objects, crowds: of all pictures.
        with_masks, with_keypoints: how many of the objects have them.
        instances: objects per class name.
        pictures: pictures per class name in which it occurs.
        sizes: objects that are ``small``, ``medium`` and ``large`` by COCO's measure.
        image_sizes: shortest and longest side of any picture, in pixels.
    """

    name: str
    images: int
    empty_images: int
    objects: int
    crowds: int
    with_masks: int
    with_keypoints: int
    instances: dict[str, int]
    pictures: dict[str, int]
    sizes: dict[str, int]
    image_sizes: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON has them."""
        return {**asdict(self), "image_sizes": list(self.image_sizes)}


def data_figures(dataset: TrainingDataset) -> DataFigures:
    """Count what ``dataset`` holds."""
    per_image = [[o for o in image.objects if not o.is_crowd] for image in dataset.images]
    objects = [thing for things in per_image for thing in things]
    number = len(dataset.class_names)
    instances = np.bincount([thing.class_id for thing in objects], minlength=number)
    occurrences = [i for things in per_image for i in {thing.class_id for thing in things}]
    pictures = np.bincount(occurrences, minlength=number)
    areas = object_areas(objects)
    small, large = int((areas < SMALL_AREA).sum()), int((areas >= LARGE_AREA).sum())
    sides = [side for image in dataset.images for side in (image.height, image.width)]
    return DataFigures(
        name=dataset.name,
        images=len(dataset.images),
        empty_images=sum(not things for things in per_image),
        objects=len(objects),
        crowds=sum(len(image.objects) for image in dataset.images) - len(objects),
        with_masks=sum(bool(thing.polygons or thing.rle) for thing in objects),
        with_keypoints=sum(thing.keypoints is not None for thing in objects),
        instances=dict(zip(dataset.class_names, instances.tolist(), strict=True)),
        pictures=dict(zip(dataset.class_names, pictures.tolist(), strict=True)),
        sizes={"small": small, "medium": len(objects) - small - large, "large": large},
        image_sizes=(min(sides), max(sides)),
    )


def object_areas(objects: Sequence[TrainingObject]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(N,) pixels of each object's mask, else of its box; of polygons, parts are added up."""
    areas = np.zeros(len(objects))
    encoded = []
    for index, thing in enumerate(objects):
        if thing.rle is not None:
            encoded.append(index)
        elif thing.polygons is not None:
            areas[index] = sum(map(polygon_area, thing.polygons))
        else:
            left, top, right, bottom = thing.box
            areas[index] = (right - left) * (bottom - top)
    if encoded:
        # One by one: of a list pycocotools counts in 8 bits, and refuses more than 255.
        areas[encoded] = [mask_api.area(objects[index].rle) for index in encoded]
    return areas


def polygon_area(polygon: Sequence[float]) -> float:
    """Pixels within a polygon, flat x, y, x, y, ...; parts that overlap themselves may cancel out."""
    points = np.array(polygon)
    x, y = points[::2], points[1::2]
    # The shoelace formula; np.roll would take most of the time.
    cross = x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1]
    return abs(float(cross)) / 2
