"""A prediction drawn on its picture: instances, keypoints, proposals, segments."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.structures import Instances, RotatedBoxes
from service.encoding.draw import Color, Mask, draw_instances
from service.encoding.instances import Selection, mask_crops, select
from service.encoding.palette import class_color
from service.inference.detector import ModelDescription, Prediction

SHOWN_PROPOSALS = 20
LEAST_KEYPOINT_SCORE = 0.05


def annotate(
    pixels: NDArray[np.uint8],
    prediction: Prediction,
    selection: Selection,
    model: ModelDescription,
) -> Image.Image:
    """(H, W, 3) uint8 RGB with what the request selected, as a new picture.

    A panoptic map is drawn rather than the instances that it is made of, and a semantic map only
    where there is nothing else.
    """
    maps = selection.segmentation != "none"
    if prediction.panoptic_seg is not None and maps and selection.includes("panoptic"):
        return _draw_panoptic(pixels, prediction, model)
    if prediction.instances is not None:
        instances = select(prediction.instances, selection)
        picture = _draw_instances(pixels, instances, selection, model)
        if instances.has("pred_keypoints") and selection.includes("keypoints"):
            _draw_keypoints(picture, instances, model)
        return picture
    if prediction.proposals is not None and selection.includes("proposals"):
        return _draw_proposals(pixels, prediction.proposals, selection.wanted.max_detections)
    if prediction.sem_seg is not None and maps and selection.includes("sem_seg"):
        return _draw_semantic(pixels, prediction.sem_seg.numpy(), model)
    return Image.fromarray(pixels)


def _draw_instances(
    pixels: NDArray[np.uint8], instances: Instances, selection: Selection, model: ModelDescription
) -> Image.Image:
    classes, scores = instances.pred_classes.tolist(), instances.scores.tolist()
    boxes = instances.pred_boxes.tensor.numpy()
    masks: list[Mask] | None = list(mask_crops(instances)) if selection.masks else None
    if isinstance(instances.pred_boxes, RotatedBoxes):
        corners = instances.pred_boxes.polygons().numpy()
        boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
        masks = [_polygon_mask(polygon, pixels.shape[:2]) for polygon in corners]
    return draw_instances(
        pixels,
        boxes=boxes,
        labels=[f"{model.class_names[c]} {s:.0%}" for c, s in zip(classes, scores, strict=True)],
        colors=[class_color(c, model.class_colors) for c in classes],
        masks=masks,
    )


def _polygon_mask(corners: NDArray[np.float32], shape: tuple[int, ...]) -> Mask:
    """The inside of a polygon (P, 2), cut to the picture."""
    left, top = (max(0, math.floor(v)) for v in corners.min(axis=0))
    right = min(shape[1], math.ceil(corners[:, 0].max()))
    bottom = min(shape[0], math.ceil(corners[:, 1].max()))
    size = (max(right - left, 1), max(bottom - top, 1))
    picture = Image.new("1", size)
    ImageDraw.Draw(picture).polygon([(x - left, y - top) for x, y in corners.tolist()], fill=1)
    return left, top, np.array(picture)


def _draw_keypoints(picture: Image.Image, instances: Instances, model: ModelDescription) -> None:
    draw = ImageDraw.Draw(picture)
    radius = max(2, round(0.003 * math.sqrt(picture.width * picture.height)))
    for points in instances.pred_keypoints.tolist():
        seen = [score >= LEAST_KEYPOINT_SCORE for _, _, score in points]
        lines = [
            (class_color(number), [tuple(points[a][:2]), tuple(points[b][:2])])
            for number, (a, b) in enumerate(model.keypoint_skeleton)
            if seen[a] and seen[b]
        ]
        # With a dark rim, they stand out from bright pictures and from masks of their own colour.
        for _, ends in lines:
            draw.line(ends, fill=(0, 0, 0), width=radius + 2 * max(1, radius // 3))
        for color, ends in lines:
            draw.line(ends, fill=color, width=radius)
        for (x, y, _), visible in zip(points, seen, strict=True):
            if visible:
                box = (x - radius, y - radius, x + radius, y + radius)
                draw.ellipse(box, fill=(255, 255, 255), outline=(0, 0, 0))


def _draw_proposals(pixels: NDArray[np.uint8], proposals: Instances, most: int) -> Image.Image:
    """The best of them; ``most`` is the request's bound, negative without."""
    best = proposals[: SHOWN_PROPOSALS if most < 0 else min(most, SHOWN_PROPOSALS)]
    boxes = best.proposal_boxes
    corners = boxes.tensor.numpy()
    if isinstance(boxes, RotatedBoxes):
        polygons = boxes.polygons().numpy()
        corners = np.concatenate((polygons.min(axis=1), polygons.max(axis=1)), axis=1)
    logits = best.objectness_logits.tolist()
    return draw_instances(
        pixels,
        boxes=corners,
        labels=[f"{logit:.1f}" for logit in logits],
        colors=[class_color(i) for i in range(len(best))],
        masks=None,
    )


def _draw_panoptic(
    pixels: NDArray[np.uint8], prediction: Prediction, model: ModelDescription
) -> Image.Image:
    if prediction.panoptic_seg is None:
        raise ValueError("This prediction has no panoptic map.")
    segments, infos = prediction.panoptic_seg[0].numpy(), prediction.panoptic_seg[1]
    masks, labels, colors, boxes = [], [], [], []
    for info in infos:
        names = model.class_names if info["isthing"] else model.stuff_class_names
        mask = segments == info["id"]
        masks.append((0, 0, mask))
        labels.append(names[info["category_id"]] if info["isthing"] else "")
        # Stuff has colours of its own, behind those of the things.
        offset = 0 if info["isthing"] else len(model.class_names)
        colors.append(class_color(info["category_id"] + offset, model.class_colors))
        boxes.append(_box_of(mask) if info["isthing"] else [math.nan] * 4)
    return _draw_masks(pixels, masks, labels, colors, boxes)


def _draw_semantic(
    pixels: NDArray[np.uint8], classes: NDArray[np.integer], model: ModelDescription
) -> Image.Image:
    ids = [class_id for class_id in np.unique(classes).tolist() if class_id >= 0]
    masks: list[Mask] = [(0, 0, classes == class_id) for class_id in ids]
    colors = [class_color(class_id, model.stuff_class_colors) for class_id in ids]
    return _draw_masks(pixels, masks, [""] * len(ids), colors, [[math.nan] * 4] * len(ids))


def _draw_masks(
    pixels: NDArray[np.uint8],
    masks: list[Mask],
    labels: list[str],
    colors: list[Color],
    boxes: list[list[float]],
) -> Image.Image:
    array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return draw_instances(pixels, boxes=array, labels=labels, colors=colors, masks=masks)


def _box_of(mask: NDArray[np.bool_]) -> list[float]:
    """The tight box of a mask, XYXY."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [math.nan] * 4
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]
