"""COCO's formats: the list of results that its tools read, and the list of categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import orjson

from service.encoding.formats.answered import Answered
from service.inference.detector import ModelDescription


def coco_json(answered: Answered) -> bytes:
    """The results of all images that could be used, as JSON."""
    ids = image_ids([answer.name for answer in answered.answers])
    results = [
        result
        for index, _, found in answered.instances()
        for result in coco_results(found, answered.model, image_id=ids[index])
    ]
    return orjson.dumps(results, option=orjson.OPT_SERIALIZE_NUMPY)


def image_ids(names: Sequence[str]) -> list[int]:
    """The id of each image: the number that its file is named after, as in COCO's 000000397133.jpg.

    If one is named otherwise, or two have the same number, they are counted from 0.
    """
    stems = [PurePath(name).stem for name in names]
    if all(stem.isascii() and stem.isdigit() and len(stem) <= 18 for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(len(names)))


def coco_results(
    instances: Mapping[str, Any], model: ModelDescription, *, image_id: int
) -> list[dict[str, Any]]:
    """One image's instances as COCO results.

    Args:
        instances: as :func:`service.encoding.instances.encode_instances` makes them with
            ``boxes=xyxy`` and ``masks=rle`` or ``none``.
        model: of which the classes are.
        image_id: of the image.

    Returns:
        Per instance its ``image_id``, ``category_id``, ``bbox`` (left, top, width, height in pixels; of
        rotated boxes XYWHA) and ``score``, and what the model gives: ``segmentation`` (RLE) and
        ``keypoints`` (x, y and score of each, the centre of the first pixel at 0, as COCO counts).
    """
    boxes = np.array(instances["pred_boxes"])
    if instances["box_mode"] == "XYXY_ABS":
        boxes[:, 2:] -= boxes[:, :2]
    category_ids = categories_of(model)
    results: list[dict[str, Any]] = [
        {
            "image_id": image_id,
            "category_id": category_ids[class_id],
            "bbox": box,
            "score": score,
        }
        for box, class_id, score in zip(
            boxes, instances["pred_classes"].tolist(), instances["scores"], strict=True
        )
    ]
    for result, mask in zip(results, instances.get("masks", ()), strict=False):
        result["segmentation"] = mask
    if "pred_keypoints" in instances:
        shift = np.array([0.5, 0.5, 0.0], dtype=np.float32)
        for result, points in zip(results, instances["pred_keypoints"], strict=True):
            result["keypoints"] = (points - shift).ravel()
    return results


def categories_of(model: ModelDescription) -> tuple[int, ...]:
    """The category id of each class: the data set's own where it is known, else the class id plus 1."""
    return model.category_ids or tuple(range(1, len(model.class_names) + 1))


def coco_categories(model: ModelDescription) -> list[dict[str, Any]]:
    """COCO's ``categories`` of a model: those of its instances, or of its semantic map if it finds none.

    Of a semantic map the id is the value of the class in the map. COCO counts the ends of a skeleton's
    lines from 1.
    """
    if "instances" not in model.outputs:
        return [
            {"id": i, "name": name, "supercategory": ""}
            for i, name in enumerate(model.stuff_class_names)
        ]
    points: dict[str, Any] = {}
    if model.keypoint_names:
        skeleton = [[a + 1, b + 1] for a, b in model.keypoint_skeleton]
        points = {"keypoints": list(model.keypoint_names), "skeleton": skeleton}
    return [
        {"id": category_id, "name": name, "supercategory": "", **points}
        for category_id, name in zip(categories_of(model), model.class_names, strict=True)
    ]
