"""An annotated picture: masks, boxes, keypoints and class names drawn over it."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pycocotools.mask as mask_api
from PIL import Image, ImageDraw, ImageFont

from models.evaluation.files import read_picture
from models.training.data.dataset import TrainingDataset, TrainingImage, TrainingObject

Color = tuple[int, int, int]

_GOLDEN_RATIO = 0.618034
"""Steps of it around the circle of hues never repeat and always fall into the widest gap."""

_MASK_OPACITY = 0.4
_FONT_SIZE = 12
_PADDING = 2
_POINT_RADIUS = 2.5
_CROWD_COLOR = (150, 150, 150)


def class_color(class_id: int) -> Color:
    """The colour of a class, far from those of its neighbours."""
    hue = (0.6 + class_id * _GOLDEN_RATIO) % 1.0
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.75, 0.95))
    return red, green, blue


def draw_annotations(dataset: TrainingDataset, image: TrainingImage, side: int) -> Image.Image:
    """The picture with its annotations, RGB, fitted into ``side`` x ``side`` pixels.

    Crowds are grey. Semantic maps show one colour per class, where there are no objects.

    Args:
        dataset: that ``image`` is of, for names and skeleton.
        image: is opened.
        side: longest side of what comes back; a smaller picture is enlarged.

    Raises:
        EvaluationError: the picture cannot be read, or has another size than the data says.
    """
    pixels = read_picture(image.path, (image.height, image.width))
    scale = side / max(image.height, image.width)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    if image.sem_seg_path is not None and not image.objects:
        _blend_classes_(picture, image)
    # Large ones first, so that small ones stay visible.
    objects = sorted(image.objects, key=_extent, reverse=True)
    for thing in objects:
        _blend_mask_(picture, thing, scale)
    draw = ImageDraw.Draw(picture)
    for thing in objects:
        _draw_box_(draw, thing, scale)
        _draw_keypoints_(draw, thing, scale, dataset)
    font = ImageFont.load_default(size=_FONT_SIZE)
    for thing in objects:
        name = dataset.class_names[thing.class_id]
        text = f"{name} (crowd)" if thing.is_crowd else name
        _draw_label_(draw, thing, scale, text, picture.size, font)
    return picture


def _extent(thing: TrainingObject) -> float:
    left, top, right, bottom = thing.box
    return (right - left) * (bottom - top)


def _color(thing: TrainingObject) -> Color:
    return _CROWD_COLOR if thing.is_crowd else class_color(thing.class_id)


def _blend_mask_(picture: Image.Image, thing: TrainingObject, scale: float) -> None:
    if thing.rle is not None:
        bits = Image.fromarray(mask_api.decode(thing.rle) * np.uint8(255))
        mask = bits.resize(picture.size, Image.Resampling.NEAREST)
    elif thing.polygons is not None:
        mask = Image.new("L", picture.size)
        for polygon in thing.polygons:
            corners = [value * scale for value in polygon]
            ImageDraw.Draw(mask).polygon(corners, fill=255)
    else:
        return
    opacity = mask.point(lambda value: round(value * _MASK_OPACITY))
    picture.paste(Image.new("RGB", picture.size, _color(thing)), mask=opacity)


def _blend_classes_(picture: Image.Image, image: TrainingImage) -> None:
    with Image.open(str(image.sem_seg_path), formats=("PNG",)) as found:
        classes = np.asarray(found.resize(picture.size, Image.Resampling.NEAREST))
    palette = np.array([class_color(class_id) for class_id in range(256)], dtype=np.uint8)
    colors = Image.fromarray(palette[classes])
    picture.paste(Image.blend(picture, colors, _MASK_OPACITY))


def _draw_box_(draw: ImageDraw.ImageDraw, thing: TrainingObject, scale: float) -> None:
    if thing.rotated_box is None:
        draw.rectangle([value * scale for value in thing.box], outline=_color(thing), width=2)
        return
    x, y, width, height, angle = thing.rotated_box
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    corners = []
    for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        dx, dy = a * width / 2, b * height / 2
        # Angles go against the clock, as seen with y downwards.
        corners.append(
            ((x + dx * cosine + dy * sine) * scale, (y - dx * sine + dy * cosine) * scale)
        )
    draw.polygon(corners, outline=_color(thing), width=2)


def _draw_keypoints_(
    draw: ImageDraw.ImageDraw, thing: TrainingObject, scale: float, dataset: TrainingDataset
) -> None:
    if thing.keypoints is None:
        return
    values = thing.keypoints
    shown = {
        name: (values[3 * i] * scale, values[3 * i + 1] * scale)
        for i, name in enumerate(dataset.keypoint_names[: len(values) // 3])
        if values[3 * i + 2] > 0
    }
    for first, second in dataset.keypoint_skeleton:
        if first in shown and second in shown:
            draw.line([shown[first], shown[second]], fill=(255, 255, 255), width=1)
    for index, (x, y) in enumerate(shown.values()):
        draw.circle((x, y), _POINT_RADIUS, fill=class_color(index), outline=(0, 0, 0))


def _draw_label_(
    draw: ImageDraw.ImageDraw,
    thing: TrainingObject,
    scale: float,
    text: str,
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """The text above the box, or within it at the picture's top, on its colour."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    wide, tall = right - left + 2 * _PADDING, bottom - top + 2 * _PADDING
    x = max(0.0, min(thing.box[0] * scale, size[0] - wide))
    y = thing.box[1] * scale - tall
    y = y if y >= 0 else max(0.0, thing.box[1] * scale)
    color = _color(thing)
    draw.rectangle([x, y, x + wide, y + tall], fill=color)
    red, green, blue = color
    is_light = 0.3 * red + 0.59 * green + 0.11 * blue > 140
    ink = (0, 0, 0) if is_light else (255, 255, 255)
    draw.text((x + _PADDING - left, y + _PADDING - top), text, fill=ink, font=font)
