"""One annotation of a COCO file as an object to learn from, or what is wrong with it."""

from __future__ import annotations

import math
from typing import Any

import pycocotools.mask as mask_api

from models.evaluation.annotations import are_numbers
from models.evaluation.files import shown
from models.evaluation.run_lengths import fault_of_rle
from models.training.data.dataset import TrainingImage, TrainingObject
from models.training.data.findings import Finding, FindingCounter

KEYPOINT_OFFSET = 0.5
"""From COCO's indices of pixels to continuous coordinates, as in Detectron2."""

_FEWEST_NUMBERS = 6
"""Of a polygon: x and y of three corners."""

_TOLERANCE = 1.0
"""Pixels that a box may stick out by rounding."""

BOX_INVALID = Finding(
    "error",
    "box-invalid",
    "Boxes are not [x, y, width, height] in finite numbers, with sides of 0 or more.",
    "Write bbox so, in pixels; are these two corners instead?",
)
BOX_EMPTY = Finding(
    "warning",
    "box-empty",
    "Boxes have no area; these objects are left out.",
    "Draw them again, or delete them.",
)
BOX_OUTSIDE = Finding(
    "error",
    "box-outside",
    "Boxes lie outside of their pictures.",
    "Were the pictures resized after they were annotated, or are width and height in the JSON wrong?",
)
BOX_STICKS_OUT = Finding(
    "warning",
    "box-sticks-out",
    "Boxes stick out of their pictures; they are cut off at the border.",
    "If they are many: is bbox [x, y, width, height], and not two corners?",
)
CROWD_INVALID = Finding("error", "crowd-invalid", "iscrowd is not 0 or 1.", "Write one of them.")
IGNORED = Finding(
    "note",
    "ignored",
    "Objects are marked to be ignored; like crowds, nothing is learned from them.",
)
MASK_INVALID = Finding(
    "error",
    "mask-invalid",
    "Masks are neither polygons of finite numbers nor COCO run-length encodings.",
    "Export them again, with the tool or with pycocotools.",
)
MASK_SIZE = Finding(
    "error",
    "mask-size",
    "Masks are of another size than their pictures.",
    "Were the pictures resized after they were annotated, or are height and width swapped?",
)
POLYGON_OUTSIDE = Finding(
    "error",
    "polygon-outside",
    "Polygons leave their pictures by more than the pictures' size.",
    "Were the pictures resized after they were annotated?",
)
POLYGON_SHORT = Finding(
    "warning",
    "polygon-short",
    "Polygons have less than three corners or an odd number of coordinates, and are left out.",
    "Draw them again if they are parts of objects.",
)
MASK_EMPTY = Finding(
    "warning",
    "mask-empty",
    "Masks have no pixel; these objects are left out.",
    "Draw them again, or delete them.",
)
KEYPOINTS_INVALID = Finding(
    "error",
    "keypoints-invalid",
    "Keypoints are not x, y, visibility of each, with a visibility of 0 (none), 1 (hidden) or 2 (seen).",
    "Export them again in COCO's format.",
)
KEYPOINTS_OUTSIDE = Finding(
    "warning",
    "keypoints-outside",
    "Keypoints that are marked visible lie outside of their pictures.",
    "Give those a visibility of 0.",
)


def read_object(
    annotation: dict[str, Any],
    number: int,
    image: TrainingImage,
    class_id: int,
    counter: FindingCounter,
) -> TrainingObject | None:
    """The object, or None if nothing can be learned from it; ``counter`` takes what was found.

    Args:
        annotation: of the file.
        number: its place there, from 1.
        image: its picture.
        class_id: of the model.
        counter: is changed.
    """
    place = f"annotation {shown(annotation.get('id', number))} of {image.path.name}"
    rotated = _rotated_box(annotation)
    given = annotation.get("bbox") if rotated is None else _around(rotated)
    box = _box(given, image, counter, place)
    if box is None:
        return None
    crowd = annotation.get("iscrowd", 0)
    if crowd not in (0, 1):
        counter.add(CROWD_INVALID, f"{place}: {shown(crowd)}")
        return None
    if annotation.get("ignore"):
        counter.add(IGNORED, place)
        crowd = 1
    polygons, rle = None, None
    # An empty one is how tools write boxes without masks.
    if segmentation := annotation.get("segmentation"):
        if isinstance(segmentation, list):
            polygons = _polygons(segmentation, image, counter, place)
        else:
            rle = _rle(segmentation, image, counter, place)
        if polygons is None and rle is None:
            return None
    keypoints = None
    if annotation.get("keypoints"):
        keypoints = _keypoints(annotation["keypoints"], image, counter, place)
        if keypoints is None:
            return None
    return TrainingObject(class_id, box, polygons, rle, keypoints, bool(crowd), rotated)


def _rotated_box(annotation: dict[str, Any]) -> tuple[float, float, float, float, float] | None:
    box: Any = annotation.get("bbox")
    if not are_numbers(box) or len(box) != 5 or box[2] < 0 or box[3] < 0:
        return None
    x, y, width, height, angle = map(float, box)
    return x, y, width, height, angle


def _around(rotated: tuple[float, float, float, float, float]) -> list[float]:
    """The upright XYWH box around a rotated one; without area if that has none."""
    x, y, width, height, angle = rotated
    if width == 0 or height == 0:
        return [x, y, 0.0, 0.0]
    cosine, sine = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    wide, tall = width * cosine + height * sine, width * sine + height * cosine
    return [x - wide / 2, y - tall / 2, wide, tall]


def _box(
    box: Any, image: TrainingImage, counter: FindingCounter, place: str
) -> tuple[float, float, float, float] | None:
    if not are_numbers(box) or len(box) != 4 or box[2] < 0 or box[3] < 0:
        counter.add(BOX_INVALID, f"{place}: {shown(box)}")
        return None
    x, y, width, height = map(float, box)
    if width == 0 or height == 0:
        counter.add(BOX_EMPTY, f"{place}: {shown(box)}")
        return None
    right, bottom = x + width, y + height
    if right <= 0 or bottom <= 0 or x >= image.width or y >= image.height:
        counter.add(BOX_OUTSIDE, f"{place}: {shown(box)} in {image.width}x{image.height}")
        return None
    if (
        min(x, y) < -_TOLERANCE
        or right > image.width + _TOLERANCE
        or bottom > image.height + _TOLERANCE
    ):
        counter.add(BOX_STICKS_OUT, f"{place}: {shown(box)} in {image.width}x{image.height}")
    return x, y, right, bottom


def _polygons(
    segmentation: list[Any], image: TrainingImage, counter: FindingCounter, place: str
) -> tuple[tuple[float, ...], ...] | None:
    kept = []
    side = max(image.height, image.width)
    for polygon in segmentation:
        if not are_numbers(polygon):
            counter.add(MASK_INVALID, f"{place}: {shown(polygon)}")
            return None
        if len(polygon) < _FEWEST_NUMBERS or len(polygon) % 2:
            counter.add(POLYGON_SHORT, f"{place}: {shown(polygon)}")
            continue
        # Rasterising walks along the whole border: one that is far too long would take all memory.
        if min(polygon) < -side or max(polygon) > 2 * side:
            counter.add(POLYGON_OUTSIDE, place)
            return None
        kept.append(tuple(map(float, polygon)))
    if not kept:
        counter.add(MASK_EMPTY, place)
        return None
    return tuple(kept)


def _rle(
    segmentation: Any, image: TrainingImage, counter: FindingCounter, place: str
) -> dict[str, Any] | None:
    if fault := fault_of_rle(segmentation, image.height, image.width):
        is_mask = isinstance(segmentation, dict) and "counts" in segmentation
        is_of_other_size = is_mask and segmentation.get("size") != [image.height, image.width]
        counter.add(MASK_SIZE if is_of_other_size else MASK_INVALID, f"{place}: {fault}")
        return None
    size, counts = segmentation["size"], segmentation["counts"]
    if isinstance(counts, list):
        rle = dict(mask_api.frPyObjects(segmentation, *size))
    else:
        rle = {"size": size, "counts": counts.encode("ascii")}
    if not mask_api.area(rle):
        counter.add(MASK_EMPTY, place)
        return None
    return rle


def _keypoints(
    keypoints: Any, image: TrainingImage, counter: FindingCounter, place: str
) -> tuple[float, ...] | None:
    if (
        not are_numbers(keypoints)
        or len(keypoints) % 3
        or any(visible not in (0, 1, 2) for visible in keypoints[2::3])
    ):
        counter.add(KEYPOINTS_INVALID, f"{place}: {shown(keypoints)}")
        return None
    x, y, visible = keypoints[::3], keypoints[1::3], keypoints[2::3]
    if any(
        v and not (0 <= a <= image.width and 0 <= b <= image.height)
        for a, b, v in zip(x, y, visible, strict=True)
    ):
        counter.add(KEYPOINTS_OUTSIDE, place)
    shifted = [KEYPOINT_OFFSET + value for value in keypoints]
    shifted[2::3] = map(float, visible)
    return tuple(shifted)
