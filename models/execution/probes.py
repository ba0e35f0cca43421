"""Pictures to try a model on: the same on every machine, of shapes, edges and textures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.architectures.rcnn import GeneralizedRCNN
from models.structures import Boxes, Instances
from models.wanted import Wanted

PROPOSALS_PER_PROBE = 50
_WANTED = (Wanted(masks=False, keypoints=False, segmentation=False), Wanted(max_detections=8))


def probe_pictures(
    number: int = 2, *, height: int = 240, width: int = 320
) -> list[NDArray[np.uint8]]:
    """``number`` pictures, (height, width, 3) uint8 RGB, each of other content.

    Args:
        number: how many.
        height, width: in pixels.
    """
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    pictures = []
    for _ in range(number):
        slope = rng.uniform(-0.4, 0.4, (3, 2))
        picture = 128 + rows[..., None] * slope[:, 0] + columns[..., None] * slope[:, 1]
        for _ in range(12):
            middle, radius = (
                rng.uniform((0, 0), (height, width)),
                rng.uniform(0.03, 0.2, 2) * height,
            )
            distance = ((rows - middle[0]) / radius[0]), ((columns - middle[1]) / radius[1])
            if rng.random() < 0.5:
                inside = distance[0] ** 2 + distance[1] ** 2 < 1
            else:
                inside = (abs(distance[0]) < 1) & (abs(distance[1]) < 1)
            picture[inside] = rng.uniform(0, 255, 3)
        noisy = picture + rng.normal(0, 6, picture.shape)
        pictures.append(noisy.clip(0, 255).astype(np.uint8))
    return pictures


def probe_inputs(
    model: nn.Module, prepare: Callable[[NDArray[np.uint8]], Tensor]
) -> list[dict[str, Any]]:
    """The probe pictures as inputs of ``model``, with proposals for one that takes them.

    Of one picture all boxes are wanted, of the other a few with masks and keypoints, which would take
    most of the time.
    """
    inputs = []
    for picture, wanted in zip(probe_pictures(), _WANTED, strict=True):
        image = prepare(picture)
        one: dict[str, Any] = {
            "image": image,
            "height": picture.shape[0],
            "width": picture.shape[1],
            "wanted": wanted,
        }
        if isinstance(model, GeneralizedRCNN) and model.proposal_generator is None:
            one["proposals"] = _proposals(image.shape[-2], image.shape[-1])
        inputs.append(one)
    return inputs


def _proposals(height: int, width: int) -> Instances:
    corners = np.random.default_rng(1).uniform(0, 0.8, (PROPOSALS_PER_PROBE, 2))
    boxes = np.concatenate((corners, corners + 0.2), axis=1) * [width, height, width, height]
    return Instances(
        (height, width),
        proposal_boxes=Boxes(torch.from_numpy(boxes).float()),
        objectness_logits=torch.zeros(PROPOSALS_PER_PROBE),
    )
