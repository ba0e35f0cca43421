"""A prediction drawn by the client, as the server's annotated picture is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from service.client.instances import Instances
from service.client.segmentation import SegmentMap
from service.encoding.draw import Color, Mask, draw_instances
from service.encoding.palette import class_color

_LEAST_KEYPOINT_SCORE = 0.05
_NO_BOX = (math.nan,) * 4


def draw_prediction(
    picture: Image.Image,
    *,
    instances: Instances | None,
    panoptic: SegmentMap | None,
    semantic: SegmentMap | None,
    skeleton: Sequence[tuple[int, int]],
    masks: bool,
    labels: bool,
    colors: Mapping[int, str],
) -> Image.Image:
    """``picture`` (RGB) with what was found, as a new image.

    A panoptic map stands in the place of its instances' masks; a semantic map is drawn only where there
    is nothing else.
    """
    pixels = np.array(picture)
    if masks and panoptic is not None:
        pixels = np.array(_draw_map(pixels, panoptic, colors, panoptic=True))
        masks = False
    elif masks and semantic is not None and instances is None:
        return _draw_map(pixels, semantic, colors, panoptic=False)
    if instances is None:
        return Image.fromarray(pixels)
    classes, scores = instances.classes.tolist(), instances.scores.tolist()
    texts = [f"{name} {s:.0%}" for name, s in zip(instances.class_names, scores, strict=True)]
    drawn = draw_instances(
        pixels,
        boxes=_upright(instances),
        labels=texts if labels else [""] * len(instances),
        colors=[_color(class_id, colors) for class_id in classes],
        masks=_masks(instances) if masks else None,
    )
    if instances.keypoints is not None:
        _draw_keypoints(drawn, instances.keypoints, skeleton)
    return drawn


def _color(class_id: int, chosen: Mapping[int, str]) -> Color:
    if class_id not in chosen:
        return class_color(class_id)
    red, green, blue, *_ = ImageColor.getrgb(chosen[class_id])
    return red, green, blue


def _upright(instances: Instances) -> NDArray[np.float32]:
    """(R, 4) XYXY; of rotated boxes the ones around them."""
    if instances.corners is None:
        return instances.boxes
    low, high = instances.corners.min(axis=1), instances.corners.max(axis=1)
    return np.concatenate((low, high), axis=1)


def _masks(instances: Instances) -> list[Mask] | None:
    """Crops around the masks; rotated boxes are shown as such."""
    height, width = instances.image_size
    if instances.corners is not None:
        found = []
        for corners in instances.corners.tolist():
            frame = Image.new("1", (width, height))
            ImageDraw.Draw(frame).polygon([(x, y) for x, y in corners], fill=1)
            found.append(_crop(np.array(frame)))
        return found
    if instances.rles is None:
        return None
    return [_crop(instances.mask(place)) for place in range(len(instances))]


def _crop(mask: NDArray[np.bool_]) -> Mask:
    """Only what is set, so that the frames of many instances are never there together."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, mask[:0, :0]
    top, left = int(rows[0]), int(columns[0])
    return left, top, mask[top : rows[-1] + 1, left : columns[-1] + 1].copy()


def _draw_keypoints(
    picture: Image.Image, keypoints: NDArray[np.float32], skeleton: Sequence[tuple[int, int]]
) -> None:
    draw = ImageDraw.Draw(picture)
    radius = max(2, round(0.003 * math.sqrt(picture.width * picture.height)))
    for points in keypoints.tolist():
        seen = [score >= _LEAST_KEYPOINT_SCORE for _, _, score in points]
        for number, (a, b) in enumerate(skeleton):
            if max(a, b) < len(seen) and seen[a] and seen[b]:
                ends = [tuple(points[a][:2]), tuple(points[b][:2])]
                draw.line(ends, fill=class_color(number), width=radius)
        for (x, y, _), visible in zip(points, seen, strict=True):
            if visible:
                box = (x - radius, y - radius, x + radius, y + radius)
                draw.ellipse(box, fill=(255, 255, 255), outline=(0, 0, 0))


def _draw_map(
    pixels: NDArray[np.uint8], found: SegmentMap, colors: Mapping[int, str], *, panoptic: bool
) -> Image.Image:
    masks = [
        _crop(found.ids == segment["id" if panoptic else "category_id"])
        for segment in found.segments
    ]
    return draw_instances(
        pixels,
        boxes=np.array([_NO_BOX] * len(masks), dtype=np.float32).reshape(-1, 4),
        labels=[""] * len(masks),
        colors=[_map_color(segment, colors, panoptic=panoptic) for segment in found.segments],
        masks=masks,
    )


def _map_color(segment: Mapping[str, Any], colors: Mapping[int, str], *, panoptic: bool) -> Color:
    """Of things the class's colour; stuff has the palette's from the other end, so that they differ."""
    class_id = int(segment["category_id"])
    if panoptic and segment["isthing"]:
        return _color(class_id, colors)
    return class_color(class_id + (1000 if panoptic else 0))
