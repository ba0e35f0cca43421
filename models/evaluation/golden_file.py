"""What a golden file says: the tolerance, and answers in the JSON of ``POST /predict``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch

from models.evaluation.errors import EvaluationError
from models.evaluation.files import shown
from models.evaluation.run_lengths import fault_of_rle
from models.structures import Boxes, Instances, RotatedBoxes

FILE = "golden.json"

ANY_SIZE = (0, 0)
"""Image size of an answer that says none."""

_BOX_MODES: dict[str, type[Boxes | RotatedBoxes]] = {"XYXY_ABS": Boxes, "XYWHA_ABS": RotatedBoxes}


@dataclass(frozen=True)
class Tolerance:
    """How far an answer may lie from the golden one.

    Attributes:
        score: largest difference of the scores of a pair. It is also the strip at the cut: instances
            that score less than this above the lowest score of the file need no counterpart.
        box_px: largest difference of a coordinate of a pair, in pixels.
        matched: least share of instances, of both answers, with a counterpart of their class.
        mask_iou: least IoU of the masks of a pair.
    """

    score: float = 0.01
    box_px: float = 1.0
    matched: float = 1.0
    mask_iou: float = 0.9


def read_tolerance(given: Any) -> Tolerance:
    """The tolerance of a file; what it leaves out is as above.

    Raises:
        EvaluationError: it has other keys, or values that cannot be.
    """
    names = [field.name for field in fields(Tolerance)]
    if not isinstance(given, dict) or not set(given) <= set(names):
        raise EvaluationError(
            f"The tolerance in {FILE} is an object with some of {', '.join(names)}."
        )
    for name, value in given.items():
        largest = math.inf if name == "box_px" else 1
        if not _is_number(value) or not 0 <= value <= largest:
            raise EvaluationError(f"The tolerance {name} in {FILE} cannot be {shown(value)}.")
    return Tolerance(**given)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Beyond 1e30 a whole number may be none that a float can hold.
    return is_number and abs(value) < 1e30


def image_name(prediction: Any) -> Any:
    """Whatever stands where a prediction has the name of its picture; None if there is nothing."""
    image = prediction.get("image") if isinstance(prediction, dict) else None
    return image.get("name") if isinstance(image, dict) else None


def read_answer(prediction: dict[str, Any], where: str) -> Instances:
    """The instances of one prediction whose picture has a name; ``pred_masks`` are a list of RLE.

    The image size is that of the answer, of its first mask, or ``ANY_SIZE``.

    Raises:
        EvaluationError: they are not as ``POST /predict`` writes them.
    """
    given = prediction.get("instances")
    if not isinstance(given, dict):
        raise EvaluationError(f"{where} has no instances.")
    boxes, classes, scores = (given.get(k) for k in ("pred_boxes", "pred_classes", "scores"))
    box_type = _BOX_MODES.get(str(given.get("box_mode", "XYXY_ABS")))
    if box_type is None:
        raise EvaluationError(f"{where} has a box_mode other than {' and '.join(_BOX_MODES)}.")
    sides = 5 if box_type is RotatedBoxes else 4
    sound = (
        isinstance(boxes, list)
        and all(isinstance(b, list) and len(b) == sides and all(map(_is_number, b)) for b in boxes)
        and isinstance(classes, list)
        and all(type(c) is int and 0 <= c < 2**31 for c in classes)
        and isinstance(scores, list)
        and all(_is_number(s) for s in scores)
        and len(boxes) == len(classes) == len(scores)
    )
    if not sound:
        raise EvaluationError(
            f"{where}: pred_boxes, pred_classes and scores are lists of one length, of {sides} numbers, "
            "of class ids and of numbers."
        )
    masks = given.get("masks")
    size = _size(prediction["image"], masks)
    answer = Instances(
        size,
        pred_boxes=box_type(torch.tensor(boxes, dtype=torch.float32)),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float32),
    )
    if masks is not None:
        if not isinstance(masks, list) or len(masks) != len(answer):
            raise EvaluationError(f"{where}: masks are a list with one for each instance.")
        for mask in masks:
            fault = fault_of_rle(mask, *size)
            if not fault and not isinstance(mask["counts"], str):
                fault = "its counts are no text"
            if fault:
                raise EvaluationError(f"{where} has a mask that cannot be read: {fault}.")
        answer.pred_masks = masks
    return answer


def _size(image: dict[str, Any], masks: Any) -> tuple[int, int]:
    """(height, width) as the answer says it, or else its first mask."""
    sides: Any = [image.get("height"), image.get("width")]
    if sides == [None, None] and isinstance(masks, list) and masks and isinstance(masks[0], dict):
        sides = masks[0].get("size")
    if isinstance(sides, list) and len(sides) == 2 and all(type(n) is int and n > 0 for n in sides):
        return sides[0], sides[1]
    return ANY_SIZE
