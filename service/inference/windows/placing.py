"""What a model found in a window, moved to the picture that the window is of."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from models.structures import Boxes, Instances, RotatedBoxes
from models.structures.rle import encode_rle_crop
from service.inference.detector import Prediction
from service.inference.windows.window import Window

NO_CLASS = -1
"""In a semantic map: no class was looked for here."""


def place(prediction: Prediction, window: Window, height: int, width: int) -> Prediction:
    """``prediction`` of ``window`` in pixels of the picture of this height and width; a new object
    that shares what need not change.

    Outside of the window a semantic map holds :data:`NO_CLASS`, a panoptic one 0. Masks that are full
    frames become run lengths, see :func:`place_instances`.
    """
    if window == Window.whole(height, width):
        return prediction
    changes: dict[str, object] = {}
    if prediction.instances is not None:
        changes["instances"] = place_instances(prediction.instances, window, height, width)
    if prediction.proposals is not None:
        proposals = prediction.proposals
        placed = Instances((height, width), **proposals.get_fields())
        placed.proposal_boxes = _moved(proposals.proposal_boxes, window)
        changes["proposals"] = placed
    if prediction.sem_seg is not None:
        changes["sem_seg"] = _framed(prediction.sem_seg, window, height, width, NO_CLASS)
    if prediction.panoptic_seg is not None:
        segments, infos = prediction.panoptic_seg
        changes["panoptic_seg"] = (_framed(segments, window, height, width, 0), infos)
    return dataclasses.replace(prediction, **changes)  # type: ignore[arg-type]  # by name


def place_instances(instances: Instances, window: Window, height: int, width: int) -> Instances:
    """``instances`` of ``window`` in pixels of the picture.

    Soft masks lie over their boxes and need no change. ``pred_masks`` (R, H, W) bool become a list of R
    run lengths, the form that masks of a whole large picture have: no frame of it is made.
    """
    placed = Instances((height, width), **instances.get_fields())
    placed.pred_boxes = _moved(instances.pred_boxes, window)
    if placed.has("pred_masks") and _are_frames(instances.pred_masks):
        placed.pred_masks = [
            encode_rle_crop(
                frame.numpy(), left=window.left, top=window.top, height=height, width=width
            )
            for frame in instances.pred_masks
        ]
    if placed.has("pred_keypoints"):
        offset = torch.tensor([window.left, window.top, 0.0])
        placed.pred_keypoints = instances.pred_keypoints + offset
    return placed


def _are_frames(masks: object) -> bool:
    return isinstance(masks, Tensor) and masks.dtype == torch.bool


def _moved(boxes: Boxes | RotatedBoxes, window: Window) -> Boxes | RotatedBoxes:
    moved = boxes.clone()
    moved.tensor[:, 0] += window.left
    moved.tensor[:, 1] += window.top
    if isinstance(moved, Boxes):
        moved.tensor[:, 2] += window.left
        moved.tensor[:, 3] += window.top
    return moved


def _framed(values: Tensor, window: Window, height: int, width: int, outside: int) -> Tensor:
    frame = torch.full((height, width), outside, dtype=values.dtype)
    frame[window.top : window.bottom, window.left : window.right] = values
    return frame
