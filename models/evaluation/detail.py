"""What a detailed evaluation says: figures per class, curves, confusion, and a verdict on each picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models.evaluation.coco import CocoResult

PRECISIONS = ("0.5", "0.75", "0.5:0.95")
"""The IoU that a match needs in each of a curve's lines; the last is the mean over ten of them."""

PerClass = dict[str, dict[str, dict[str, float | None]]]
"""By IoU type and class: AP, AP50, AP75, APs, APm, APl and AR (0 to 100, None where there is nothing
to measure by), and the numbers of ``instances`` and ``detections``. Keypoints have no APs."""


@dataclass(frozen=True)
class Curve:
    """Precision against recall of one class, as COCO's AP takes it: 101 places, 0 to 1 each.

    Attributes:
        recall: 0, 0.01, ... 1.
        precision: by the IoU that a match needs (:data:`PRECISIONS`), the best that is reached at this
            recall or a higher one; 0 where the recall is not reached.
        scores: the score threshold that gives this recall at IoU 0.5; None where it is not reached.
    """

    recall: tuple[float, ...]
    precision: dict[str, tuple[float, ...]]
    scores: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with four decimals."""
        return {
            "recall": _rounded(self.recall),
            "precision": {iou: _rounded(values) for iou, values in self.precision.items()},
            "scores": _rounded(self.scores),
        }


@dataclass(frozen=True)
class BestThreshold:
    """The score threshold to serve a class with, if false and missed instances weigh the same.

    Attributes:
        score: detections with this score or more give the best F1; None where no detection is right.
        f1, precision, recall: with that threshold, 0 to 1.
        iou_threshold: that a match needs; the one of COCO's ten next to what was asked for.
    """

    score: float | None
    f1: float
    precision: float
    recall: float
    iou_threshold: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with four decimals; the score is rounded down, so that it keeps what it stands for."""
        content = {k: None if v is None else round(v, 4) for k, v in asdict(self).items()}
        if self.score is not None:
            content["score"] = int(self.score * 10_000) / 10_000
        return content


@dataclass(frozen=True)
class Confusion:
    """Which class was taken for which.

    Attributes:
        names: of the K classes of the data set, by ascending category id.
        matrix: (K + 1) x (K + 1) numbers of instances: rows are what is there, columns what was found.
            The last row is detections of nothing, the last column instances that were missed; the last
            of both is 0.
        iou_threshold: least IoU of boxes of a pair.
        score_threshold: detections below it were left out.
    """

    names: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    iou_threshold: float
    score_threshold: float

    def worst(self, number: int) -> list[tuple[str, str, int]]:
        """The most frequent confusions of two classes: (what is there, what was found, times)."""
        pairs = [
            (self.names[i], self.names[j], count)
            for i, row in enumerate(self.matrix[:-1])
            for j, count in enumerate(row[:-1])
            if i != j and count
        ]
        return sorted(pairs, key=lambda pair: -pair[2])[:number]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "matrix": [list(row) for row in self.matrix]}


@dataclass(frozen=True)
class Match:
    """A detection and the instance that it is, by place.

    Attributes:
        truth: among the data set's annotations of the picture, in their order.
        detection: among ``DetailedResult.answers`` of the picture.
        iou: of their boxes.
        same_class: False where the instance was taken for another class.
    """

    truth: int
    detection: int
    iou: float
    same_class: bool


@dataclass(frozen=True)
class ImageVerdict:
    """What is right and wrong in the answer to one picture, at the thresholds of the confusion.

    Detections below the score threshold, and those that lie on a crowd region, are in none of these.

    Attributes:
        image_id: in the data set.
        path: of the picture.
        matches: detections that are an instance, of its class or of another.
        false: places of detections that are none, among ``DetailedResult.answers`` of the picture.
        missed: places of instances that nothing is matched with, among the annotations of the picture.
    """

    image_id: int
    path: Path
    matches: tuple[Match, ...]
    false: tuple[int, ...]
    missed: tuple[int, ...]

    @property
    def true_positives(self) -> int:
        """Instances that were found as what they are."""
        return sum(match.same_class for match in self.matches)

    @property
    def confused(self) -> int:
        """Instances that were found as another class."""
        return len(self.matches) - self.true_positives

    @property
    def false_positives(self) -> int:
        """Detections of nothing."""
        return len(self.false)

    @property
    def false_negatives(self) -> int:
        """Instances that were missed."""
        return len(self.missed)

    @property
    def errors(self) -> int:
        """Confused, false and missed ones."""
        return self.confused + len(self.false) + len(self.missed)

    @property
    def goodness(self) -> float:
        """F1 of the picture, 0 to 1: a confused instance is a false and a missed one. 1 if there is
        nothing to find and nothing was found."""
        right = 2 * self.true_positives
        wrong = len(self.false) + len(self.missed) + 2 * self.confused
        return right / (right + wrong) if right + wrong else 1.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON; of the path the file's name."""
        return {
            "image_id": self.image_id,
            "file": self.path.name,
            "true_positives": self.true_positives,
            "false_positives": self.false_positives,
            "false_negatives": self.false_negatives,
            "confused": self.confused,
            "goodness": round(self.goodness, 4),
            "matches": [{**asdict(m), "iou": round(m.iou, 4)} for m in self.matches],
            "false": list(self.false),
            "missed": list(self.missed),
        }


@dataclass(frozen=True)
class DetailedResult:
    """All that an evaluation found out.

    Attributes:
        result: COCO's figures, overall and AP per class.
        per_class: see :data:`PerClass`.
        curves: by IoU type and class; classes without an instance have none.
        thresholds: the best score threshold by IoU type and class; classes without an instance have none.
        confusion: of all pictures.
        images: a verdict on each, in the order of the data set.
        answers: by image id the detections in COCO's results format (``category_id``, ``bbox`` XYWH,
            ``score``, ``segmentation``, ``keypoints``), in the order of the answer, without classes
            that the data set does not know; empty if they were not kept.
        notes: sentences on what a reader of the figures should know.
    """

    result: CocoResult
    per_class: PerClass
    curves: dict[str, dict[str, Curve]]
    thresholds: dict[str, dict[str, BestThreshold]]
    confusion: Confusion
    images: tuple[ImageVerdict, ...]
    answers: dict[int, tuple[dict[str, Any], ...]] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    def worst(self, number: int) -> list[ImageVerdict]:
        """The pictures of the least goodness, those with more errors first among equals; perfect ones are
        left out."""
        wrong = [image for image in self.images if image.errors]
        return sorted(wrong, key=lambda image: (image.goodness, -image.errors))[:number]

    def mean_curve(self, iou_type: str) -> Curve | None:
        """Precision over all classes that have a curve, each weighing the same; scores are left out."""
        curves = list(self.curves.get(iou_type, {}).values())
        if not curves:
            return None
        return Curve(
            recall=curves[0].recall,
            precision={
                iou: tuple(
                    sum(values) / len(curves)
                    for values in zip(*(curve.precision[iou] for curve in curves), strict=True)
                )
                for iou in PRECISIONS
            },
            scores=(None,) * len(curves[0].recall),
        )

    def coco_results(self) -> list[dict[str, Any]]:
        """The answers as a results file of COCO has them."""
        return [answer for answers in self.answers.values() for answer in answers]

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without the answers."""
        return {
            "result": self.result.to_dict(),
            "per_class": {
                kind: {
                    name: {n: None if v is None else round(v, 3) for n, v in figures.items()}
                    for name, figures in classes.items()
                }
                for kind, classes in self.per_class.items()
            },
            "curves": _as_dicts(self.curves),
            "thresholds": _as_dicts(self.thresholds),
            "confusion": self.confusion.to_dict(),
            "images": [image.to_dict() for image in self.images],
            "notes": list(self.notes),
        }


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in values]


def _as_dicts(
    content: dict[str, dict[str, Curve]] | dict[str, dict[str, BestThreshold]],
) -> dict[str, dict[str, Any]]:
    return {
        kind: {name: value.to_dict() for name, value in classes.items()}
        for kind, classes in content.items()
    }
