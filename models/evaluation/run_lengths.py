"""Masks of instances in COCO's run-length encoding, and whether one from a file is sound."""

from __future__ import annotations

from typing import Any

import torch

from models.evaluation.errors import EvaluationError
from models.layers.mask_runs import encode_pasted_masks
from models.structures import Instances, encode_rle_crop
from models.structures.rle import RLE

_LONGEST_COUNT = 12
"""Characters, of 5 bits each: more than any picture's run takes."""


def encode_masks(instances: Instances) -> list[RLE]:
    """RLE of each instance's ``pred_masks``.

    They may be soft, (R, 1, M, M) over the boxes, and go there without full frames; or bool frames
    (R, H, W); or a list of RLE already.

    Raises:
        EvaluationError: they are something else.
    """
    masks = instances.pred_masks
    height, width = instances.image_size
    if isinstance(masks, list):
        return masks
    if masks.dtype == torch.bool and masks.shape[1:] == (height, width):
        return [
            encode_rle_crop(frame.numpy(), left=0, top=0, height=height, width=width)
            for frame in masks
        ]
    if masks.dim() == 4 and masks.shape[1] == 1 and masks.is_floating_point():
        if not len(masks):
            return []
        return encode_pasted_masks(masks[:, 0], instances.pred_boxes.tensor, (height, width))
    raise EvaluationError(
        f"pred_masks of shape {tuple(masks.shape)} and {masks.dtype} in a picture of {width}x{height} are "
        "neither soft masks (R, 1, M, M) nor bool frames (R, H, W)."
    )


def fault_of_rle(mask: Any, height: int, width: int) -> str:
    """What is wrong with a mask of a file as COCO's RLE of ``height`` x ``width``; "" if nothing.

    pycocotools does not look: runs that do not fill the frame would go unnoticed.
    """
    if not isinstance(mask, dict):
        return "a mask is an object with size and counts"
    if mask.get("size") != [height, width]:
        return f"its size is not [{height}, {width}], the picture's"
    counts = mask.get("counts")
    if isinstance(counts, str):
        counts = _counts(counts)
    if not isinstance(counts, list) or not all(type(n) is int and n >= 0 for n in counts):
        return "its counts are no run lengths"
    if sum(counts) != height * width:
        return f"its runs cover {sum(counts)} of {height * width} pixels"
    return ""


def _counts(text: str) -> list[int] | None:
    """Run lengths of COCO's characters; None where they are no such text.

    A character is 48 plus five bits, lowest first, plus 32 if more follow; the highest bit of the
    last five is the sign. From the fourth on, a count is the difference from the one before the last.
    """
    counts: list[int] = []
    value = digits = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or digits == _LONGEST_COUNT:
            return None
        value |= (bits & 31) << (5 * digits)
        digits += 1
        if not bits & 32:
            if bits & 16:
                value -= 1 << (5 * digits)
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = digits = 0
    return None if digits else counts
