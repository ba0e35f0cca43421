"""Golden answers: what a version of a model must answer to pictures that it ships.

A folder holds ``golden.json``, which is the JSON of ``POST /predict`` as it was answered once, and the
pictures under ``golden/``. The JSON may have a ``tolerance`` beside its ``predictions``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from models.evaluation.errors import EvaluationError
from models.evaluation.files import path_inside, read_json, shown
from models.evaluation.golden_file import (
    ANY_SIZE,
    FILE,
    Tolerance,
    image_name,
    read_answer,
    read_tolerance,
)
from models.evaluation.matching import Difference, Matching, difference_of, match_instances
from models.structures import Instances

FOLDER = "golden"
MAX_BYTES = 32 << 20
MAX_LISTED = 10
"""Instances that a verdict lists."""

IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class GoldenImage:
    """A picture with a golden answer: its name in the file, and where it lies."""

    name: str
    path: Path


@dataclass(frozen=True)
class GoldenComparison:
    """How a model's answer to one picture compares.

    Attributes:
        name: of the picture.
        difference: from the golden answer (a) to the model's (b), classes equal.
        missing: golden instances that the model did not find: picture, class id, score, box.
        unexpected: instances that it found and the golden answer has not; likewise.
    """

    name: str
    difference: Difference
    missing: tuple[dict[str, Any], ...]
    unexpected: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class GoldenFigure:
    """A measured figure and what it must hold: ``value`` at least or at most ``limit``."""

    name: str
    value: float
    bound: Literal["at_least", "at_most"]
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the value is within its bound."""
        if self.bound == "at_least":
            return self.value >= self.limit
        return self.value <= self.limit


@dataclass(frozen=True)
class GoldenVerdict:
    """Whether a model answers as it must, over all pictures.

    Attributes:
        images: that were compared.
        figures: each with its limit.
        missing, unexpected: the first of those instances; see :class:`GoldenComparison`.
    """

    images: int
    figures: tuple[GoldenFigure, ...]
    missing: tuple[dict[str, Any], ...]
    unexpected: tuple[dict[str, Any], ...]

    @property
    def holds(self) -> bool:
        """Whether every figure is within its tolerance."""
        return all(figure.holds for figure in self.figures)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        figures = [{**asdict(figure), "holds": figure.holds} for figure in self.figures]
        return {**asdict(self), "figures": figures, "holds": self.holds}


@dataclass(frozen=True)
class GoldenAnswers:
    """Pictures, the answers to them, and the tolerance; made by :meth:`load`.

    Attributes:
        images: in the order of the file.
        answers: by the picture's name; ``pred_masks`` are a list of RLE.
        tolerance: of the file, or as above.
    """

    images: tuple[GoldenImage, ...]
    answers: dict[str, Instances]
    tolerance: Tolerance

    @classmethod
    def load(cls, folder: Path) -> GoldenAnswers:
        """Read ``golden.json`` of a version's folder.

        Raises:
            EvaluationError: it cannot be read or is no answer of ``POST /predict``; a picture is missing
                or lies outside of ``golden/``; or nothing at all was found in the pictures.
        """
        content = read_json(folder / FILE, max_bytes=MAX_BYTES)
        tolerance = read_tolerance(content.get("tolerance", {}))
        pictures = (folder / FOLDER).resolve()
        if not pictures.is_relative_to(folder.resolve()):
            raise EvaluationError(f"The folder {FOLDER} is a link out of the version's folder.")
        images: list[GoldenImage] = []
        answers: dict[str, Instances] = {}
        predictions = content.get("predictions")
        for prediction in predictions if isinstance(predictions, list) else ():
            name = image_name(prediction)
            path = path_inside(pictures, name)
            if name in answers:
                raise EvaluationError(f"{FILE} has two answers to {shown(name)}.")
            if not os.path.isfile(path):  # unlike Path.is_file never an error
                raise EvaluationError(
                    f"{FILE} has an answer to {shown(f'{FOLDER}/{name}')}, which is not there."
                )
            answers[name] = read_answer(prediction, f"{FILE}, {shown(name)}")
            images.append(GoldenImage(name, path))
        if not any(len(answer) for answer in answers.values()):
            raise EvaluationError(
                f"{FILE} has no instances in its predictions; every model that finds nothing would do."
            )
        return cls(tuple(images), answers, tolerance)

    @property
    def cut(self) -> float:
        """Instances that score at most this need no counterpart."""
        lowest = min(float(a.scores.min()) for a in self.answers.values() if len(a))
        return lowest + self.tolerance.score

    def compare(self, name: str, instances: Instances) -> GoldenComparison:
        """Hold a model's answer to one picture against the golden one.

        Scores, boxes and masks are compared, where the golden answer has masks; keypoints are not.

        Args:
            name: of the picture.
            instances: on the CPU, in pixels of the picture.

        Raises:
            EvaluationError: the name is unknown, the picture has another size, or the golden answer has
                masks and the model none.
        """
        if name not in self.answers:
            raise EvaluationError(f"There is no golden answer to {shown(name)}.")
        golden = self.answers[name]
        if golden.image_size not in (ANY_SIZE, instances.image_size):
            raise EvaluationError(
                f"The golden answer to {shown(name)} is in {golden.image_size} pixels (height, width); "
                f"the picture has {instances.image_size}."
            )
        masks = golden.has("pred_masks")
        if masks and len(instances) and not instances.has("pred_masks"):
            raise EvaluationError(
                f"The golden answer to {shown(name)} has masks; the model has no mask head."
            )
        found = match_instances(golden, instances, IOU_THRESHOLD, same_class=True)
        clear = Matching(
            pairs=found.pairs,
            ious=found.ious,
            only_a=_clear(golden, found.only_a, self.cut),
            only_b=_clear(instances, found.only_b, self.cut),
        )
        return GoldenComparison(
            name=name,
            difference=difference_of(golden, instances, clear, masks=masks),
            missing=_listed(name, golden, clear.only_a),
            unexpected=_listed(name, instances, clear.only_b),
        )

    def verdict(self, comparisons: Iterable[GoldenComparison]) -> GoldenVerdict:
        """What the comparisons of all pictures say together.

        Raises:
            EvaluationError: there is not exactly one for each picture.
        """
        compared = list(comparisons)
        if sorted(one.name for one in compared) != sorted(self.answers):
            raise EvaluationError("A verdict takes one comparison of each picture.")
        total = sum((one.difference for one in compared), start=Difference())
        limits = self.tolerance
        figures = [
            GoldenFigure("matched", total.matched_share, "at_least", limits.matched),
            GoldenFigure("score", total.score_shift_max, "at_most", limits.score),
            GoldenFigure("box_px", total.box_px_max, "at_most", limits.box_px),
        ]
        if total.mask_iou_min is not None:
            figures.append(
                GoldenFigure("mask_iou", total.mask_iou_min, "at_least", limits.mask_iou)
            )
        return GoldenVerdict(
            images=len(compared),
            figures=tuple(figures),
            missing=tuple(item for one in compared for item in one.missing)[:MAX_LISTED],
            unexpected=tuple(item for one in compared for item in one.unexpected)[:MAX_LISTED],
        )


def _clear(instances: Instances, index: tuple[int, ...], cut: float) -> tuple[int, ...]:
    """Those that need a counterpart; a score that is no number is one of them."""
    scores = instances.scores.tolist()
    return tuple(i for i in index if not scores[i] <= cut)


def _listed(name: str, instances: Instances, index: tuple[int, ...]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "image": name,
            "class": int(instances.pred_classes[i]),
            "score": _finite(float(instances.scores[i])),
            "box": [_finite(v) for v in instances.pred_boxes.tensor[i].tolist()],
        }
        for i in index[:MAX_LISTED]
    )


def _finite(value: float) -> float | None:
    """The value as JSON can hold it."""
    return value if math.isfinite(value) else None
