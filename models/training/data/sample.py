"""One picture with all that is known about it, as tensors that torchvision's transforms change together.

Points (corners of polygons, keypoints) travel as boxes without sides: torchvision's own key points are
indices of pixels when mirrored, but continuous coordinates when resized, and ours are continuous.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors

from models.training.data.dataset import TrainingObject
from models.training.data.rotated_points import points_to_rotated, rotated_to_points

_CORNERS = 4

_OUTSIDE = 0.01
"""Pixels by which a corner of the picture lies outside before it counts as cut off: rounding is less."""


@dataclass(frozen=True)
class PictureParts:
    """What a picture holds, in pixels of that picture.

    Attributes:
        image: (3, H, W) uint8.
        boxes: (G, 4) float64 XYXY, clipped to the picture.
        bit_masks: (B, H, W) uint8 of the objects with run-length masks, in their order.
        polygons: by object, its polygons as (P, 2) float64 each; [] where it has none. They may leave the
            picture.
        keypoints: (G, K, 3) float64.
        rotated_boxes: (G, 5) float64 centre x, y, width, height, angle in degrees; not clipped.
        sem_seg: (H, W) int32 or None, less the value that is ignored: so 0 is ignored.
        is_mirrored: left and right have changed places, so what is on the right of a body has too.
        is_cropped: a part of the picture that was read is not in this one.
    """

    image: Tensor
    boxes: Tensor
    bit_masks: Tensor
    polygons: list[list[NDArray[np.float64]]]
    keypoints: Tensor
    rotated_boxes: Tensor
    sem_seg: Tensor | None
    is_mirrored: bool
    is_cropped: bool


class Sample:
    """A picture and its objects on their way through transforms.

    Args:
        pixels: (H, W, 3) uint8.
        objects: those to learn from.
        with_masks: whether their masks are wanted.
        keypoints: how many of each are wanted, K; those of an object without any are not labelled.
        sem_seg: (H, W) int32, less the value that is ignored.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        objects: tuple[TrainingObject, ...],
        *,
        with_masks: bool,
        keypoints: int,
        sem_seg: Tensor | None = None,
    ) -> None:
        size = (pixels.shape[0], pixels.shape[1])
        boxes = np.array([found.box for found in objects], dtype=np.float64).reshape(-1, 4)
        self._visible = np.zeros((len(objects), keypoints))
        places = np.zeros((len(objects), keypoints, 2))
        for number, found in enumerate(objects):
            if keypoints and found.keypoints is not None:
                triples = np.array(found.keypoints).reshape(keypoints, 3)
                places[number], self._visible[number] = triples[:, :2], triples[:, 2]
        polygons = [
            [np.array(polygon).reshape(-1, 2) for polygon in found.polygons or ()]
            for found in objects
            if with_masks
        ]
        self._lengths = [[len(polygon) for polygon in parts] for parts in polygons]
        corners = np.array([[0, 0], [size[1], 0], [size[1], size[0]], [0, size[0]]], np.float64)
        rotated = np.array([_rotated_box(found) for found in objects], dtype=np.float64)
        points = np.concatenate(
            [
                corners,
                rotated_to_points(torch.from_numpy(rotated.reshape(-1, 5))).view(-1, 2).numpy(),
                places.reshape(-1, 2),
                *(part for parts in polygons for part in parts),
            ]
        )
        self.tensors: dict[str, Any] = {
            "image": tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1)),
            "boxes": _as_boxes(boxes, size, "hard"),
            # Clipping would bend polygons.
            "points": _as_boxes(np.tile(points, 2), size, None),
        }
        masks = [found.rle for found in objects if found.rle is not None] if with_masks else []
        if masks:
            # (H, W, B) with the columns in one piece; a mere view of that.
            frames = torch.from_numpy(mask_api.decode(masks)).permute(2, 0, 1)
            self.tensors["bit_masks"] = tv_tensors.Mask(frames)
        if sem_seg is not None:
            self.tensors["sem_seg"] = tv_tensors.Mask(sem_seg[None])

    def parts(self, tensors: dict[str, Any]) -> PictureParts:
        """What became of the sample.

        Args:
            tensors: :attr:`tensors` after the transforms.
        """
        image: Tensor = tensors["image"].as_subclass(Tensor)
        height, width = image.shape[1:]
        points = tensors["points"].as_subclass(Tensor)[:, :2]
        objects, per_object = self._visible.shape
        corners, rotated, places, vertices = points.split(
            [_CORNERS, 3 * objects, per_object * objects, sum(map(sum, self._lengths))]
        )
        keypoints = torch.empty(objects, per_object, 3, dtype=torch.float64)
        keypoints[..., :2] = places.view(objects, per_object, 2)
        keypoints[..., 2] = torch.from_numpy(self._visible)
        boxes = tensors["boxes"].as_subclass(Tensor).clone()
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
        masks = tensors.get("bit_masks")
        sem_seg = tensors.get("sem_seg")
        return PictureParts(
            image=image,
            boxes=boxes,
            bit_masks=(
                torch.empty(0, height, width, dtype=torch.uint8)
                if masks is None
                else masks.as_subclass(Tensor)
            ),
            polygons=self._split(vertices.numpy()),
            keypoints=keypoints,
            rotated_boxes=points_to_rotated(rotated.reshape(-1, 3, 2)),
            sem_seg=None if sem_seg is None else sem_seg.as_subclass(Tensor)[0],
            is_mirrored=_turns(corners) < 0,
            is_cropped=_leaves(corners, width, height),
        )

    def _split(self, points: NDArray[np.float64]) -> list[list[NDArray[np.float64]]]:
        split = []
        start = 0
        for lengths in self._lengths:
            parts = []
            for length in lengths:
                parts.append(points[start : start + length])
                start += length
            split.append(parts)
        return split


def _as_boxes(
    boxes: NDArray[np.float64], size: tuple[int, int], clamping: str | None
) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(
        torch.from_numpy(boxes), format="XYXY", canvas_size=size, clamping_mode=clamping
    )


def _rotated_box(found: TrainingObject) -> tuple[float, ...]:
    if found.rotated_box is not None:
        return found.rotated_box
    x1, y1, x2, y2 = found.box
    return ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 0.0)


def _leaves(corners: Tensor, width: int, height: int) -> bool:
    limit = corners.new_tensor([width, height])
    return bool(((corners < -_OUTSIDE) | (corners > limit + _OUTSIDE)).any())


def _turns(corners: Tensor) -> float:
    """Positive where the picture's corners go round as they did when it was read."""
    right, down = corners[1] - corners[0], corners[3] - corners[0]
    return float(right[0] * down[1] - right[1] * down[0])
