"""Two evaluations of one data set side by side: what got better, what worse, what was forgotten."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from models.evaluation.detail import DetailedResult, ImageVerdict
from models.evaluation.errors import EvaluationError

_SAME = 1e-9
"""Goodness is a fraction of small numbers: nearer than this is rounding."""


@dataclass(frozen=True)
class Change:
    """A figure before and after, 0 to 100; None where it was not measured."""

    before: float | None
    after: float | None

    @property
    def difference(self) -> float | None:
        """After less before; None if one of them was not measured."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before

    def to_dict(self) -> dict[str, float | None]:
        """As JSON, with three decimals."""
        values = {**asdict(self), "difference": self.difference}
        return {key: None if value is None else round(value, 3) for key, value in values.items()}


@dataclass(frozen=True)
class ImageChange:
    """One picture before and after.

    Attributes:
        before, after: the verdicts.
        gained: places of instances, among the picture's annotations, that were not found as what they
            are and now are.
        lost: the other way round.
    """

    before: ImageVerdict
    after: ImageVerdict
    gained: tuple[int, ...]
    lost: tuple[int, ...]

    @property
    def image_id(self) -> int:
        """In the data set."""
        return self.after.image_id

    @property
    def path(self) -> Path:
        """Of the picture."""
        return self.after.path

    @property
    def difference(self) -> float:
        """Of the goodness, -1 to 1."""
        return self.after.goodness - self.before.goodness

    @property
    def verdict(self) -> Literal["better", "worse", "same"]:
        """By the goodness; a picture may have gained and lost and be the same."""
        if abs(self.difference) <= _SAME:
            return "same"
        return "better" if self.difference > 0 else "worse"

    def to_dict(self) -> dict[str, Any]:
        """As JSON; of the path the file's name."""
        return {
            "image_id": self.image_id,
            "file": self.path.name,
            "verdict": self.verdict,
            "goodness_before": round(self.before.goodness, 4),
            "goodness_after": round(self.after.goodness, 4),
            "gained": list(self.gained),
            "lost": list(self.lost),
            "false_positives_before": self.before.false_positives,
            "false_positives_after": self.after.false_positives,
        }


@dataclass(frozen=True)
class Comparison:
    """What changed from one evaluation to another, of what both measured.

    Attributes:
        figures: by IoU type and COCO's name.
        per_class: AP by IoU type and class; a class that only one of them knows has one figure.
        images: in the order of the data set.
    """

    figures: dict[str, dict[str, Change]]
    per_class: dict[str, dict[str, Change]]
    images: tuple[ImageChange, ...]

    def count(self, verdict: Literal["better", "worse", "same"]) -> int:
        """Pictures of a verdict."""
        return sum(image.verdict == verdict for image in self.images)

    def most_improved(self, number: int) -> list[ImageChange]:
        """Pictures that got better, those that did most first."""
        better = [image for image in self.images if image.verdict == "better"]
        return sorted(better, key=lambda image: (-image.difference, -len(image.gained)))[:number]

    def most_worsened(self, number: int) -> list[ImageChange]:
        """Pictures that got worse, those that did most first."""
        worse = [image for image in self.images if image.verdict == "worse"]
        return sorted(worse, key=lambda image: (image.difference, -len(image.lost)))[:number]

    def forgotten(self, iou_type: str, least: float = 0.0) -> dict[str, Change]:
        """Classes whose AP fell by more than ``least``, those that lost most first."""
        fallen = [
            (difference, name, change)
            for name, change in self.per_class.get(iou_type, {}).items()
            if (difference := change.difference) is not None and difference < -least
        ]
        return {name: change for _, name, change in sorted(fallen, key=lambda row: row[:2])}

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "figures": _as_dicts(self.figures),
            "per_class": _as_dicts(self.per_class),
            "better": self.count("better"),
            "worse": self.count("worse"),
            "same": self.count("same"),
            "images": [image.to_dict() for image in self.images],
        }


def compare(first: DetailedResult, second: DetailedResult) -> Comparison:
    """Compare two evaluations of one data set, the older one first.

    Raises:
        EvaluationError: they are of different pictures, annotations or thresholds.
    """
    before, after = first.images, second.images
    one, other = first.confusion, second.confusion
    if (
        [image.image_id for image in before] != [image.image_id for image in after]
        or first.result.instances != second.result.instances
        or one.names != other.names
    ):
        raise EvaluationError(
            f"The evaluations are of different data sets ({first.result.dataset}: {len(before)} images, "
            f"{first.result.instances} instances; {second.result.dataset}: {len(after)} images, "
            f"{second.result.instances} instances); evaluate both with the same one."
        )
    if (one.score_threshold, one.iou_threshold) != (other.score_threshold, other.iou_threshold):
        raise EvaluationError(
            "The evaluations have different score or IoU thresholds: their pictures cannot be compared. "
            "Evaluate both with the same."
        )
    kinds = [kind for kind in first.result.figures if kind in second.result.figures]
    return Comparison(
        figures={
            kind: _changes(first.result.figures[kind], second.result.figures[kind])
            for kind in kinds
        },
        per_class={
            kind: _changes(first.result.per_class[kind], second.result.per_class[kind])
            for kind in kinds
        },
        images=tuple(_image_change(a, b) for a, b in zip(before, after, strict=True)),
    )


def _changes(before: dict[str, float | None], after: dict[str, float | None]) -> dict[str, Change]:
    return {name: Change(before[name], value) for name, value in after.items()}


def _image_change(before: ImageVerdict, after: ImageVerdict) -> ImageChange:
    was = {match.truth for match in before.matches if match.same_class}
    now = {match.truth for match in after.matches if match.same_class}
    return ImageChange(before, after, tuple(sorted(now - was)), tuple(sorted(was - now)))


def _as_dicts(table: dict[str, dict[str, Change]]) -> dict[str, dict[str, Any]]:
    return {
        kind: {name: change.to_dict() for name, change in changes.items()}
        for kind, changes in table.items()
    }
