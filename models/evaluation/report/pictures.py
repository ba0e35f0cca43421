"""Pictures of a report: a small JPEG in the file itself, and frames and names over it as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.evaluation.report.page import text

SIDE = 640
"""The longer side in the units of the SVG, and of the JPEG in pixels at most."""

_QUALITY = 82
_OPACITY = 0.38
_LETTER, _LINE = 12.0, 24.0
"""Of a tag, in the units of the SVG: an SVG does not know how wide its text will be."""

Kind = Literal["right", "false", "confused", "missed", "truth", "crowd"]
_COLORS: dict[Kind, tuple[int, int, int]] = {
    "right": (47, 191, 113),
    "false": (255, 90, 79),
    "confused": (245, 179, 1),
}
"""Of masks; frames have theirs from the style sheet."""

_DASHED = frozenset({"missed", "truth", "crowd"})
"""What the data set says is there, unlike what was found."""


@dataclass(frozen=True)
class Mark:
    """An instance on a picture.

    Attributes:
        kind: what it is: found and right, false, or confused with another class; or what is there: missed,
            found ("truth"), or a region of many.
        box: XYWH in pixels of the picture.
        label: plain text; "" is none.
        mask: COCO's RLE, drawn for what was found.
    """

    kind: Kind
    box: Sequence[float]
    label: str = ""
    mask: Any = None


def picture_svg(pixels: NDArray[np.uint8], marks: Sequence[Mark], *, title: str) -> str:
    """An inline SVG of a picture, with marks.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        marks: what is drawn later lies above.
        title: plain text.
    """
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    wide, high = width * scale, height * scale
    parts = [
        f'<svg viewBox="0 0 {wide:.0f} {high:.0f}" role="img"><title>{text(title)}</title>'
        f'<image width="{wide:.1f}" height="{high:.1f}" href="{_jpeg(_masked(pixels, marks))}"/>'
    ]
    boxes = [[side * scale for side in mark.box] for mark in marks]
    for mark, (x, y, w, h) in zip(marks, boxes, strict=True):
        kind = f"{mark.kind} dashed" if mark.kind in _DASHED else mark.kind
        place = f'x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}"'
        said = f"<title>{text(mark.label)}</title>" if mark.label else ""
        # What was found shines through the dashes of what is there, so that both are seen.
        under = "" if mark.kind == "truth" else f'<rect class="under" {place}/>'
        parts.append(f'{under}<rect class="frame {kind}" {place}>{said}</rect>')
    parts += _tags(marks, boxes, wide, high)
    return "".join([*parts, "</svg>"])


def _masked(pixels: NDArray[np.uint8], marks: Sequence[Mark]) -> Image.Image:
    """The picture, small, with the masks of what was found."""
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    masks = [
        (mark.mask, _COLORS[mark.kind]) for mark in marks if mark.mask and mark.kind in _COLORS
    ]
    if not masks:
        return small
    import pycocotools.mask as mask_api  # where it is used: most data sets have boxes alone

    canvas = np.array(small)
    for mask, color in masks:
        frame = Image.fromarray(mask_api.decode(mask) * np.uint8(255))
        inside = np.asarray(frame.resize(size, Image.Resampling.BILINEAR)) > 127
        mixed = canvas[inside] * (1 - _OPACITY) + np.array(color) * _OPACITY
        canvas[inside] = mixed.round().astype(np.uint8)
    return Image.fromarray(canvas)


def _jpeg(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _tags(
    marks: Sequence[Mark], boxes: Sequence[Sequence[float]], wide: float, high: float
) -> list[str]:
    """Names beside their frames, mistakes first; what is right goes without where there is no room."""
    order = sorted(range(len(marks)), key=lambda i: marks[i].kind in ("right", "truth"))
    taken: list[tuple[float, float, float, float]] = []
    tags = []
    for i in order:
        mark, (x, y, _, h) = marks[i], boxes[i]
        if not mark.label:
            continue
        length = _LETTER * len(mark.label)
        left = max(0.0, min(x, wide - length))
        places = [
            (left, min(max(top, 0.0), high - _LINE), left + length)
            for top in (y - _LINE, y + h, y + 2, y + h - _LINE)
        ]
        free = next((place for place in places if not _meets(place, taken)), None)
        if free is None and mark.kind == "right":
            continue
        left, top, right = free or places[0]
        taken.append((left, top, right, top + _LINE))
        tags.append(
            f'<text class="tag" x="{left + 2:.1f}" y="{top + 0.75 * _LINE:.1f}">{text(mark.label)}</text>'
        )
    return tags


def _meets(
    place: tuple[float, float, float], taken: Sequence[tuple[float, float, float, float]]
) -> bool:
    left, top, right = place
    return any(
        left < r and right > x and top < bottom and top + _LINE > y for x, y, r, bottom in taken
    )
