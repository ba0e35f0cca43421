"""What the objects of a data set say about it: masks beside their boxes, objects annotated twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as mask_api
from numpy.typing import NDArray

from models.training.data.dataset import TrainingDataset, TrainingObject
from models.training.data.findings import Finding, FindingCounter

_LEAST_IOU = 0.5
"""Of a box and the one around its mask. Tools and people differ by pixels, not by half the area."""

MASK_BESIDE_BOX = Finding(
    "warning",
    "mask-beside-box",
    "Masks do not lie in their boxes.",
    "Look at the contact sheet: was one of the two scaled or moved?",
)
OBJECT_TWICE = Finding(
    "warning",
    "object-twice",
    "Objects are annotated twice: same class, same box.",
    "Delete one of each.",
)


def look_at_objects(dataset: TrainingDataset) -> tuple[Finding, ...]:
    """What is odd about single objects that can be read; see the findings above."""
    counter = FindingCounter()
    for image in dataset.images:
        seen = set()
        for thing in image.objects:
            key = (thing.class_id, thing.box)
            if key in seen:
                name = dataset.class_names[thing.class_id]
                counter.add(OBJECT_TWICE, f"{name} in {image.path.name}")
            seen.add(key)
        masked = [thing for thing in image.objects if thing.polygons or thing.rle]
        if not masked:
            continue
        boxes = np.array([thing.box for thing in masked])
        for index in np.flatnonzero(_overlaps(boxes, _bounds(masked)) < _LEAST_IOU):
            name = dataset.class_names[masked[index].class_id]
            counter.add(MASK_BESIDE_BOX, f"{name} in {image.path.name}")
    return counter.findings()


def _bounds(objects: Sequence[TrainingObject]) -> NDArray[np.float64]:
    """(N, 4) XYXY around each mask."""
    bounds = np.zeros((len(objects), 4))
    for index, thing in enumerate(objects):
        if thing.rle is not None:
            x, y, width, height = mask_api.toBbox(thing.rle)
            bounds[index] = x, y, x + width, y + height
        elif thing.polygons is not None:
            x_ = [value for polygon in thing.polygons for value in polygon[::2]]
            y_ = [value for polygon in thing.polygons for value in polygon[1::2]]
            bounds[index] = min(x_), min(y_), max(x_), max(y_)
    return bounds


def _overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) IoU of each pair of boxes."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    # A polygon on one line has bounds without area, and then no overlap.
    return np.asarray(shared / (areas[0] + areas[1] - shared))
