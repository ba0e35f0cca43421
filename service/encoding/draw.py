"""Draws instances on their picture: half-transparent masks with outlines, boxes, and tags with the
labels. Large instances come first, so that small ones stay visible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from service.encoding.palette import text_color

Color = tuple[int, int, int]
Mask = tuple[int, int, NDArray[np.bool_]]
_Rectangle = tuple[int, int, int, int]  # left, top, right, bottom, the last two exclusive

_MASK_OPACITY = 0.42
# Shares of the square root of the picture's area.
_FONT_SIZE = 0.0165
_LINE_WIDTH = 0.0022
_SMALLEST_FONT = 10.0


def draw_instances(
    image: NDArray[np.uint8],
    *,
    boxes: NDArray[np.floating],
    labels: Sequence[str],
    colors: Sequence[Color],
    masks: Sequence[Mask] | None,
) -> Image.Image:
    """Returns a picture of the same size with R instances drawn on it; ``image`` is not changed.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (R, 4) XYXY in pixels; parts outside the picture are cut off, and a box that is
            not finite is left out with its tag.
        labels: R texts such as ``"person 98%"``; an empty one draws no tag.
        colors: R colours.
        masks: R crops ``(left, top, bits)`` with bits of any (h, w), or None.

    Raises:
        ValueError: boxes, labels, colors and masks are not of one length.
    """
    count = len(boxes)
    if len(labels) != count or len(colors) != count or (masks is not None and len(masks) != count):
        raise ValueError("boxes, labels, colors and masks must have one entry per instance")
    height, width = image.shape[:2]
    scale = math.sqrt(height * width)
    line = max(1, round(_LINE_WIDTH * scale))
    pixels = np.array(image)
    finite = np.where(np.isfinite(boxes), boxes, 0).reshape(-1, 4)
    areas = (finite[:, 2] - finite[:, 0]) * (finite[:, 3] - finite[:, 1])
    order = [int(index) for index in np.argsort(-areas, kind="stable")]
    if masks is not None:
        for index in order:
            _blend_mask(pixels, masks[index], colors[index], line)
    drawn: list[tuple[int, _Rectangle]] = []
    for index in order:
        if np.isfinite(boxes[index]).all():
            rectangle = _inside(boxes[index], width, height)
            _draw_box(pixels, rectangle, colors[index], line)
            drawn.append((index, rectangle))
    picture = Image.fromarray(pixels)
    tags = _TagLayer(
        ImageDraw.Draw(picture),
        picture.size,
        font_size=max(_SMALLEST_FONT, _FONT_SIZE * scale),
        boxes=[rectangle for _, rectangle in drawn],
    )
    # The smallest have the fewest places for a tag, so they choose first.
    for index, rectangle in reversed(drawn):
        tags.place(rectangle, labels[index], colors[index])
    return picture


def _inside(box: NDArray[np.floating], width: int, height: int) -> _Rectangle:
    left, right = (round(float(min(max(x, 0), width))) for x in (box[0], box[2]))
    top, bottom = (round(float(min(max(y, 0), height))) for y in (box[1], box[3]))
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _draw_box(pixels: NDArray[np.uint8], rectangle: _Rectangle, color: Color, line: int) -> None:
    """Draws the border of the rectangle, inside of it and in place."""
    left, top, right, bottom = rectangle
    box = pixels[top:bottom, left:right]
    box[:line] = box[-line:] = color
    box[:, :line] = box[:, -line:] = color


def _blend_mask(pixels: NDArray[np.uint8], mask: Mask, color: Color, line: int) -> None:
    """Blends the colour over the mask's pixels and draws its outline, in place."""
    left, top, bits = mask
    height, width = pixels.shape[:2]
    bits = bits[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
    if not bits.any():
        return
    left, top = max(left, 0), max(top, 0)
    crop = pixels[top : top + bits.shape[0], left : left + bits.shape[1]]
    inner = crop[bits] * (1 - _MASK_OPACITY) + np.array(color) * _MASK_OPACITY
    crop[bits] = inner.round().astype(np.uint8)
    crop[_outline(bits, line)] = color


def _outline(bits: NDArray[np.bool_], line: int) -> NDArray[np.bool_]:
    """The pixels of the mask within ``line`` steps of its edge, (h, w) bool."""
    core = np.pad(bits, 1)
    for _ in range(line):
        eroded = core.copy()
        eroded[1:] &= core[:-1]
        eroded[:-1] &= core[1:]
        eroded[:, 1:] &= core[:, :-1]
        eroded[:, :-1] &= core[:, 1:]
        core = eroded
    return bits & ~core[1:-1, 1:-1]


class _TagLayer:
    """Places tags one after the other, clear of each other and of boxes where there is room."""

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        size: tuple[int, int],
        *,
        font_size: float,
        boxes: list[_Rectangle],
    ) -> None:
        self._draw = draw
        self._width, self._height = size
        self._boxes = np.array(boxes).reshape(-1, 4)
        self._font = ImageFont.load_default(size=font_size)
        self._padding = max(2, round(font_size * 0.28))
        # Height by the font and not by the text, so that all tags are equally tall.
        _, top, _, bottom = self._font.getbbox("Ag", anchor="ls")
        self._ascent = round(-top)
        self._text_height = round(bottom - top)
        self._taken: list[_Rectangle] = []

    def place(self, box: _Rectangle, label: str, color: Color) -> None:
        """Draws the label's tag at the box; none where the picture is too small to bear it."""
        text = self._shortened(" ".join(label.split()))
        tall = self._text_height + 2 * self._padding
        if not text or 3 * tall > self._height:
            return
        wide = math.ceil(self._font.getlength(text)) + 2 * self._padding
        left, top = self._free_spot(box, wide, tall)
        tag = (left, top, left + wide, top + tall)
        self._taken.append(tag)
        self._draw.rounded_rectangle(
            (left, top, tag[2] - 1, tag[3] - 1), radius=self._padding // 2, fill=color
        )
        baseline = top + self._padding + self._ascent
        self._draw.text(
            (left + self._padding, baseline),
            text,
            fill=text_color(color),
            font=self._font,
            anchor="ls",
        )

    def _shortened(self, text: str) -> str:
        room = self._width - 2 * self._padding
        if self._font.getlength(text) <= room:
            return text
        while text and self._font.getlength(text + "...") > room:
            text = text[:-1]
        return text and text + "..."

    def _free_spot(self, box: _Rectangle, wide: int, tall: int) -> tuple[int, int]:
        """Above the box, else below, within or beside it: the first spot that hides the least."""
        left, top, right, bottom = box
        spots = [
            (left, top - tall),
            (right - wide, top - tall),
            (left, bottom),
            (right - wide, bottom),
            (left, top),
            (left, bottom - tall),
            (right, top),
            (left - wide, top),
        ]
        rows = [(x, y) for x, y in spots if 0 <= y <= self._height - tall]
        rows = rows or [(left, min(top, self._height - tall))]
        inside = [(min(max(x, 0), self._width - wide), y) for x, y in rows]
        tags = np.array([(x, y, x + wide, y + tall) for x, y in inside])
        # Hiding another tag is ten times as bad as hiding the same share of a box.
        cost = _hidden_shares(tags, self._boxes)
        if self._taken:
            cost += 10 * _hidden_shares(tags, np.array(self._taken))
        return inside[int(cost.argmin())]


def _hidden_shares(tags: NDArray[np.integer], others: NDArray[np.integer]) -> NDArray[np.float64]:
    """For each of (S, 4) tags, the share of each of (M, 4) others that it hides, summed: (S,)."""
    low = np.maximum(tags[:, None, :2], others[None, :, :2])
    high = np.minimum(tags[:, None, 2:], others[None, :, 2:])
    hidden = (high - low).clip(min=0).prod(axis=2)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return np.asarray((hidden / areas).sum(axis=1), dtype=np.float64)
