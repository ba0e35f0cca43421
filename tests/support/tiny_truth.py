"""Ground truth for the small models of :mod:`tiny_models`: squares of two classes, with everything."""

from __future__ import annotations

from typing import Any

import torch
from tiny_models import tiny_image

from models import BitMasks, Boxes, Instances, Keypoints


def tiny_truth(*boxes: list[float], size: tuple[int, int] = (96, 128)) -> Instances:
    """Objects of classes 0, 1, 0, ... that fill their whole boxes, with four keypoints at the middle."""
    tensor = torch.tensor(boxes).reshape(-1, 4)
    frames = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for frame, (x1, y1, x2, y2) in zip(frames, tensor.round().int().tolist(), strict=True):
        frame[y1:y2, x1:x2] = True
    middles = (tensor[:, None, :2] + tensor[:, None, 2:]) / 2
    visible = torch.full((len(boxes), 1, 1), 2.0)
    return Instances(
        size,
        gt_boxes=Boxes(tensor),
        gt_classes=torch.arange(len(boxes)) % 2,
        gt_masks=BitMasks(frames),
        gt_keypoints=Keypoints(torch.cat((middles, visible), dim=2).expand(-1, 4, -1)),
    )


def tiny_training_input(*boxes: list[float], seed: int = 0) -> dict[str, Any]:
    """An image of noise with its objects; their pixels are of class 1 + theirs, the others of class 0."""
    truth = tiny_truth(*boxes)
    sem_seg = torch.zeros(truth.image_size, dtype=torch.int64)
    for mask, label in zip(truth.gt_masks, truth.gt_classes, strict=True):
        sem_seg[mask] = 1 + label
    return {"image": tiny_image(seed=seed), "instances": truth, "sem_seg": sem_seg}
