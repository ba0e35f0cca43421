"""From a transformed sample to the ``Instances`` that losses are computed with."""

from __future__ import annotations

from collections.abc import Sequence

import pycocotools.mask as mask_api
import torch
from torch import Tensor

from models.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks, RotatedBoxes
from models.training.data.dataset import TrainingObject
from models.training.data.polygon_extent import visible_extent
from models.training.data.sample import PictureParts

SHORTEST_SIDE = 1e-5
"""Pixels: objects with a box that has a side up to this are dropped, as by Detectron2."""


def ground_truth_instances(
    parts: PictureParts,
    objects: Sequence[TrainingObject],
    *,
    with_masks: bool,
    as_bit_masks: bool,
    with_keypoints: bool,
    flip_permutation: tuple[int, ...] | None,
    rotated: bool,
) -> Instances:
    """The objects that are still in the picture.

    After a crop, boxes are drawn anew around what is left of the masks.

    Args:
        parts: of the sample of ``objects``.
        objects: in the order of ``parts``.
        with_masks: whether there are ``gt_masks``.
        as_bit_masks: whether these are bit masks even where all have polygons.
        with_keypoints: whether there are ``gt_keypoints``.
        flip_permutation: the keypoint that stands in each place in a mirror image.
        rotated: whether ``gt_boxes`` are rotated boxes; those at an angle may leave the picture.

    Returns:
        ``gt_boxes``, ``gt_classes`` (G,) int64 and, as wanted, ``gt_masks`` and ``gt_keypoints``.
    """
    size = (parts.image.shape[1], parts.image.shape[2])
    boxes = parts.boxes
    frames = None
    if with_masks and (as_bit_masks or len(parts.bit_masks)):
        frames = _frames(parts, objects, size)
    if with_masks and parts.is_cropped:
        boxes = (
            _extents(parts, size)
            if frames is None
            else BitMasks(frames).get_bounding_boxes().tensor
        )
    kept = ((boxes[:, 2:] - boxes[:, :2]) > SHORTEST_SIDE).all(dim=1)
    if frames is not None:
        kept &= frames.flatten(1).any(dim=1)
    turned = None
    if rotated:
        turned = RotatedBoxes(parts.rotated_boxes)
        turned.clip(size)
        kept &= turned.nonempty(SHORTEST_SIDE)

    found = Instances(size)
    found.gt_boxes = turned[kept] if turned is not None else Boxes(boxes[kept])
    classes = torch.tensor([one.class_id for one in objects], dtype=torch.int64)
    found.gt_classes = classes[kept]
    if frames is not None:
        found.gt_masks = BitMasks(frames[kept])
    elif with_masks:
        found.gt_masks = PolygonMasks(
            [
                [polygon.ravel() for polygon in polygons]
                for polygons, is_kept in zip(parts.polygons, kept.tolist(), strict=True)
                if is_kept
            ]
        )
    if with_keypoints:
        found.gt_keypoints = Keypoints(_keypoints(parts, size, flip_permutation)[kept])
    return found


def _frames(
    parts: PictureParts, objects: Sequence[TrainingObject], size: tuple[int, int]
) -> Tensor:
    """(G, H, W) bool: run-length masks as they came through, polygons drawn by COCO's rule."""
    if len(parts.bit_masks) == len(objects):
        return parts.bit_masks.bool()
    frames = torch.zeros(len(objects), *size, dtype=torch.bool)
    bit_masks = iter(parts.bit_masks)
    for number, one in enumerate(objects):
        if one.rle is not None:
            frames[number] = next(bit_masks).bool()
        else:
            polygons = [polygon.ravel() for polygon in parts.polygons[number]]
            drawn = mask_api.merge(mask_api.frPyObjects(polygons, *size))
            frames[number] = torch.from_numpy(mask_api.decode(drawn)).bool()
    return frames


def _extents(parts: PictureParts, size: tuple[int, int]) -> Tensor:
    extents = [visible_extent(polygons, *size) for polygons in parts.polygons]
    return torch.tensor(extents, dtype=torch.float64).reshape(-1, 4)


def _keypoints(
    parts: PictureParts, size: tuple[int, int], flip_permutation: tuple[int, ...] | None
) -> Tensor:
    """(G, K, 3): those that left the picture are not labelled; the latter all have zeros, as in COCO."""
    keypoints = parts.keypoints
    if parts.is_mirrored and flip_permutation is not None:
        keypoints = keypoints[:, list(flip_permutation)]
    limit = keypoints.new_tensor([size[1], size[0]])
    places = keypoints[..., :2]
    is_inside = ((places >= 0) & (places <= limit)).all(dim=2)
    is_labelled = is_inside & (keypoints[..., 2] > 0)
    return torch.where(is_labelled[..., None], keypoints, keypoints.new_zeros(()))
