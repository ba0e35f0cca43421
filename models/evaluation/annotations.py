"""One annotation of a COCO data set: checked, and completed to what COCO's evaluation reads."""

from __future__ import annotations

import math
from typing import Any

from models.evaluation.errors import EvaluationError
from models.evaluation.files import shown
from models.evaluation.run_lengths import fault_of_rle


def ground_truth(
    annotation: dict[str, Any], number: int, height: int, width: int
) -> dict[str, Any]:
    """The fields that evaluation needs.

    Args:
        annotation: of the file; its image and category are known to exist.
        number: its place in the file, from 1. It becomes the id: COCO's evaluation takes an id of 0
            for "nothing", and some tools write none or write one twice.
        height, width: of its picture, in pixels.

    Returns:
        ``id``, ``image_id``, ``category_id``, ``bbox`` (XYWH), ``area``, ``iscrowd``; and where the file
        has them ``segmentation``, and ``keypoints`` with ``num_keypoints``.

    Raises:
        EvaluationError: a field is missing or is not what COCO's format says.
    """
    name = f"Annotation {shown(annotation.get('id', f'number {number}'))}"
    box: Any = annotation.get("bbox")
    if not are_numbers(box) or len(box) != 4 or min(box[2:]) < 0:
        raise EvaluationError(f"{name} has the bbox {shown(box)}; it is [x, y, width, height].")
    crowd = annotation.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise EvaluationError(f"{name} has iscrowd {shown(crowd)}; it is 0 or 1.")
    checked: dict[str, Any] = {
        "id": number,
        "image_id": annotation["image_id"],
        "category_id": annotation["category_id"],
        "bbox": box,
        "iscrowd": int(crowd),
    }
    # An empty one is how tools write boxes without masks.
    if segmentation := annotation.get("segmentation"):
        if fault := _fault_of_segmentation(segmentation, height, width):
            raise EvaluationError(f"{name} has a segmentation that cannot be read: {fault}.")
        checked["segmentation"] = segmentation
    if (keypoints := annotation.get("keypoints")) is not None:
        if not are_numbers(keypoints) or not keypoints or len(keypoints) % 3:
            raise EvaluationError(
                f"{name} has the keypoints {shown(keypoints)}; they are x, y and visibility of each."
            )
        checked["keypoints"] = keypoints
        checked["num_keypoints"] = sum(visible > 0 for visible in keypoints[2::3])
    area = annotation.get("area")
    if area is None:
        area = _area(checked, height, width)
    if not are_numbers([area]) or area < 0:
        raise EvaluationError(f"{name} has the area {shown(area)}; it is a number of pixels.")
    checked["area"] = area
    return checked


def are_numbers(values: Any) -> bool:
    """Is it a list of finite numbers?"""
    return isinstance(values, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values
    )


def _fault_of_segmentation(segmentation: Any, height: int, width: int) -> str:
    if isinstance(segmentation, dict):
        return fault_of_rle(segmentation, height, width)
    if not isinstance(segmentation, list):
        return "it is neither polygons nor a mask"
    # pycocotools takes four numbers for a box and fails on fewer.
    if not all(are_numbers(p) and len(p) >= 6 and len(p) % 2 == 0 for p in segmentation):
        return "a polygon is x and y of three corners or more"
    # pycocotools walks along the whole border: one that is far too long would take all memory.
    side = max(height, width)
    if any(not -side <= value <= 2 * side for polygon in segmentation for value in polygon):
        return "a polygon leaves the picture by more than the picture's size"
    return ""


def _area(annotation: dict[str, Any], height: int, width: int) -> float:
    """Pixels of its mask, else of its box, of an annotation that does not say."""
    segmentation = annotation.get("segmentation")
    if segmentation is None:
        return float(annotation["bbox"][2] * annotation["bbox"][3])
    import pycocotools.mask as mask_api  # where it is used: most data sets give areas

    if isinstance(segmentation, list):
        segmentation = mask_api.merge(mask_api.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = mask_api.frPyObjects(segmentation, height, width)
    return float(mask_api.area(segmentation))
