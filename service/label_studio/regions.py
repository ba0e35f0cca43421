"""One picture's instances as regions of Label Studio: percent of the picture, labels of the project.

Regions of one instance are neighbours. Keypoints name the rectangle of their instance as their
parent, where there is one.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.structures.rle import RLE
from service.encoding.mask_runs import MaskRuns
from service.encoding.polygons import encode_polygons
from service.inference.detector import ModelDescription
from service.label_studio.brush import encode_brush
from service.label_studio.config import Control
from service.label_studio.labels import match_labels

DIGITS = 5
"""Of a percentage: a hundredth of a pixel in the largest picture."""

KEYPOINT_SIZE = 0.75
"""Of a keypoint's mark, percent of the picture's width; Label Studio draws it so large."""

Value = dict[str, Any]


@dataclass
class Regions:
    """What became of one picture.

    Attributes:
        regions: Label Studio's result entries.
        scores: of the instances that are in them.
        dropped: instances without a label in the project.
    """

    regions: list[dict[str, Any]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    dropped: int = 0

    @property
    def score(self) -> float:
        """Of the whole prediction, by which Label Studio sorts tasks: the mean; 0 for nothing."""
        return sum(self.scores) / len(self.scores) if self.scores else 0.0


def encode_regions(
    instances: Mapping[str, Any],
    controls: Sequence[Control],
    model: ModelDescription,
    *,
    width: int,
    height: int,
) -> Regions:
    """Regions of one picture.

    Args:
        instances: as ``POST /predict`` has them, with masks as run lengths if a control needs them.
        controls: those on this picture.
        model: which found them.
        width, height: of the picture.
    """
    found = Regions()
    picture = _Picture(instances, width, height)
    # Rectangles first: keypoints refer to them.
    ordered = sorted(controls, key=lambda control: control.kind != "rectanglelabels")
    drawings = [_Drawing.of(control, model, picture) for control in ordered]
    for index, score in enumerate(instances["scores"].tolist()):
        known = any(drawing.knows(index) for drawing in drawings)
        drawn, parent = False, None
        for drawing in drawings:
            for region in drawing.regions(index, parent):
                found.regions.append(region)
                drawn = True
                if drawing.control.kind == "rectanglelabels":
                    parent = region["id"]
        if drawn:
            found.scores.append(score)
        found.dropped += not known
    return found


class _Picture:
    """What was found in one picture."""

    def __init__(self, instances: Mapping[str, Any], width: int, height: int) -> None:
        self.width, self.height = width, height
        self.scores: list[float] = instances["scores"].tolist()
        self.classes: list[int] = instances["pred_classes"].tolist()
        self.boxes: list[list[float]] = instances["pred_boxes"].tolist()
        self.corners: list[list[list[float]]] | None = None
        """Of rotated boxes, one after the other; None if they are none."""
        if "polygons" in instances:
            self.corners = instances["polygons"].tolist()
        self.keypoints: list[list[list[float]]] | None = None
        if "pred_keypoints" in instances:
            self.keypoints = instances["pred_keypoints"].tolist()
        self.masks: list[RLE] | None = instances.get("masks")

    def x(self, pixels: float) -> float:
        return _percent(pixels, self.width)

    def y(self, pixels: float) -> float:
        return _percent(pixels, self.height)


@dataclass(frozen=True)
class _Drawing:
    """A control, ready to be filled for one picture."""

    control: Control
    threshold: float
    labels: dict[int, str]
    picture: _Picture

    @classmethod
    def of(cls, control: Control, model: ModelDescription, picture: _Picture) -> _Drawing:
        names = model.keypoint_names if control.kind == "keypointlabels" else model.class_names
        own = control.score_threshold
        threshold = model.default_score if own is None else own
        return cls(control, threshold, match_labels(names, control.labels), picture)

    def knows(self, index: int) -> bool:
        """Whether the control has a label for an instance, be it drawn or not."""
        if self.control.kind == "keypointlabels":
            return bool(self.labels) and self.picture.keypoints is not None
        return self.picture.classes[index] in self.labels

    def regions(self, index: int, parent: str | None) -> Iterator[dict[str, Any]]:
        """Those of an instance; ``parent`` is its rectangle, if it has one."""
        score = self.picture.scores[index]
        if score < self.threshold or not self.knows(index):
            return
        if self.control.kind == "keypointlabels":
            yield from self._keypoints(index, parent)
            return
        draw = {
            "rectanglelabels": self._rectangles,
            "polygonlabels": self._polygons,
            "brushlabels": self._brushes,
        }[self.control.kind]
        for value in draw(index):
            yield self._region(value, self.labels[self.picture.classes[index]], score)

    def _rectangles(self, index: int) -> Iterator[Value]:
        picture = self.picture
        if picture.corners is not None:
            yield self._rotated(picture.corners[index])
            return
        x1, y1, x2, y2 = picture.boxes[index]
        left, right, top, bottom = picture.x(x1), picture.x(x2), picture.y(y1), picture.y(y2)
        width, height = round(right - left, DIGITS), round(bottom - top, DIGITS)
        yield {"x": left, "y": top, "width": width, "height": height, "rotation": 0}

    def _rotated(self, corners: list[list[float]]) -> Value:
        """A rectangle turned clockwise around its first corner.

        Any of the four can be the first. One within the picture is taken, which needs no clipping.
        """
        picture = self.picture
        inside = [
            i
            for i, (x, y) in enumerate(corners)
            if 0 <= x <= picture.width and 0 <= y <= picture.height
        ]
        start = inside[0] if inside else 0
        (x, y), (x2, y2), _, (x4, y4) = corners[start:] + corners[:start]
        along, across = (x2 - x, y2 - y), (x4 - x, y4 - y)
        # On a screen, where y points down, a turn to the right is clockwise.
        if along[0] * across[1] - along[1] * across[0] < 0:
            along, across = across, along
        return {
            "x": picture.x(x),
            "y": picture.y(y),
            "width": picture.x(math.hypot(*along)),
            "height": picture.y(math.hypot(*across)),
            "rotation": round(math.degrees(math.atan2(along[1], along[0])) % 360, DIGITS) % 360,
        }

    def _polygons(self, index: int) -> Iterator[Value]:
        """Label Studio's polygons have one outline and no holes: a mask in parts is several."""
        picture = self.picture
        outlines: list[list[list[float]]] = []
        if picture.masks is not None:
            [parts] = encode_polygons([picture.masks[index]], (picture.height, picture.width))
            outlines = [part["exterior"].tolist() for part in parts]
        elif picture.corners is not None:
            outlines = [picture.corners[index]]
        for outline in outlines:
            yield {"points": [[picture.x(x), picture.y(y)] for x, y in outline], "closed": True}

    def _brushes(self, index: int) -> Iterator[Value]:
        picture = self.picture
        if picture.masks is None:
            return
        height, width = picture.height, picture.width
        [(left, top, bits)] = MaskRuns.of([picture.masks[index]], (height, width)).crops()
        if bits.size:
            rle = encode_brush(bits, left=left, top=top, height=height, width=width)
            yield {"format": "rle", "rle": rle}

    def _keypoints(self, index: int, parent: str | None) -> Iterator[dict[str, Any]]:
        picture = self.picture
        for number, (x, y, score) in enumerate((picture.keypoints or [])[index]):
            if number not in self.labels or score < self.control.point_threshold:
                continue
            value = {"x": picture.x(x), "y": picture.y(y), "width": KEYPOINT_SIZE}
            region = self._region(value, self.labels[number], min(max(score, 0.0), 1.0))
            yield region if parent is None else region | {"parentID": parent}

    def _region(self, value: Value, label: str, score: float) -> dict[str, Any]:
        return {
            "id": uuid.uuid4().hex[:10],
            "from_name": self.control.name,
            "to_name": self.control.to_name,
            "type": self.control.kind,
            "original_width": self.picture.width,
            "original_height": self.picture.height,
            "image_rotation": 0,
            "score": score,
            "value": value | {self.control.kind: [label]},
        }


def _percent(pixels: float, whole: int) -> float:
    """Percent of ``whole``, within 0 to 100; what is no number, of a broken model, is 0."""
    share = pixels / whole * 100
    return round(min(max(share, 0.0), 100.0), DIGITS) if math.isfinite(share) else 0.0
