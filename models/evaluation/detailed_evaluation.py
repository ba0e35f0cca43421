"""Evaluation in detail: COCO AP, and where it comes from: classes, scores, confusions, pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.evaluation.average_precision import Figures, IouType, figures_of
from models.evaluation.coco import CocoEvaluator
from models.evaluation.coco_dataset import CocoDataset
from models.evaluation.coco_json import SHOWN
from models.evaluation.curves import best_thresholds, class_curves, class_figures, is_measured
from models.evaluation.detail import (
    BestThreshold,
    Confusion,
    Curve,
    DetailedResult,
    ImageVerdict,
    PerClass,
)
from models.evaluation.errors import EvaluationError
from models.evaluation.files import read_picture
from models.evaluation.verdicts import Objects, confusion_matrix, judge
from models.structures import Instances

_SIZES = {
    "APs": ("small", "an area below 32x32 pixels"),
    "APm": ("medium", "an area of 32x32 to 96x96 pixels"),
    "APl": ("large", "an area of 96x96 pixels or more"),
}


class DetailedEvaluator(CocoEvaluator):
    """Collects answers as :class:`CocoEvaluator` does, in any order and from anywhere, and says more
    of them.

    Args:
        dataset, class_names, iou_types, keypoint_sigmas, unknown_categories: see
            :class:`CocoEvaluator`.
        score_threshold: detections below are left out of the confusion and of the verdicts on
            pictures; AP is of all detections whatever it is.
        iou_threshold: least IoU of boxes of a match there.
        keep_answers: keep them in the result, to draw or to write them; masks take memory.

    Raises:
        EvaluationError: as :class:`CocoEvaluator`, or a threshold is not within 0 to 1.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        class_names: Sequence[str],
        iou_types: Sequence[IouType] | None = None,
        *,
        keypoint_sigmas: Sequence[float] | None = None,
        unknown_categories: Literal["refuse", "miss"] = "refuse",
        score_threshold: float = 0.5,
        iou_threshold: float = 0.5,
        keep_answers: bool = True,
    ) -> None:
        super().__init__(
            dataset,
            class_names,
            iou_types,
            keypoint_sigmas=keypoint_sigmas,
            unknown_categories=unknown_categories,
        )
        if not 0 <= score_threshold <= 1:
            raise EvaluationError(f"The score threshold is {score_threshold}; it is within 0 to 1.")
        if not 0 < iou_threshold <= 1:
            raise EvaluationError(f"The IoU threshold is {iou_threshold}; it is above 0, up to 1.")
        self._score_threshold = score_threshold
        self._iou_threshold = iou_threshold
        self._keep_answers = keep_answers

    def detailed_result(self) -> DetailedResult:
        """Measure; pycocotools computes for a while, most of it in Python.

        Raises:
            EvaluationError: pictures of the data set were not added.
        """
        self._require_all()
        figures: dict[IouType, Figures] = {}
        per_class: PerClass = {}
        curves: dict[str, dict[str, Curve]] = {}
        thresholds: dict[str, dict[str, BestThreshold]] = {}
        for kind in self._measurable():
            evaluation = self._run(kind)
            figures[kind] = figures_of(evaluation, self._dataset, kind)
            per_class[kind] = class_figures(evaluation, self._dataset, kind)
            curves[kind] = class_curves(evaluation, self._dataset)
            thresholds[kind] = best_thresholds(evaluation, self._dataset, self._iou_threshold)
        result = self._summary(figures)
        answers: dict[int, list[dict[str, Any]]] = {image.id: [] for image in self._dataset.images}
        for found in self._results:
            answers[found["image_id"]].append(found)
        images, confusion = self._verdicts(answers)
        kept = {i: tuple(found) for i, found in answers.items()} if self._keep_answers else {}
        notes = (*result.notes, *self._notes(figures))
        return DetailedResult(result, per_class, curves, thresholds, confusion, images, kept, notes)

    def _verdicts(
        self, answers: dict[int, list[dict[str, Any]]]
    ) -> tuple[tuple[ImageVerdict, ...], Confusion]:
        places = {category: k for k, category in enumerate(self._dataset.categories)}
        annotated: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in self._dataset.annotations:
            annotated[annotation["image_id"]].append(annotation)
        verdicts, truths, detections = [], [], []
        for image in self._dataset.images:
            truth = _objects(annotated[image.id], places)
            found = _objects(answers[image.id], places)
            outcome = judge(
                truth,
                found,
                iou_threshold=self._iou_threshold,
                score_threshold=self._score_threshold,
            )
            verdicts.append(ImageVerdict(image.id, image.path, *outcome))
            truths.append(truth)
            detections.append(found)
        matrix = confusion_matrix(verdicts, truths, detections, len(places))
        return tuple(verdicts), Confusion(
            names=tuple(self._dataset.categories.values()),
            matrix=tuple(tuple(row) for row in matrix.tolist()),
            iou_threshold=self._iou_threshold,
            score_threshold=self._score_threshold,
        )

    def _notes(self, measured: dict[IouType, Figures]) -> Iterable[str]:
        """Why figures are missing."""
        name = self._dataset.name
        for kind, figures in measured.items():
            instances = [a for a in self._dataset.annotations if is_measured(a, kind)]
            if not instances:
                yield f"No instance of {name} can be measured by {kind}: all its figures are empty."
                continue
            for figure, (size, area) in _SIZES.items():
                if figure in figures.overall and figures.overall[figure] is None:
                    yield (
                        f"No instance of {name} is {size} ({area}): {figure} of {kind} is empty (COCO's own "
                        "table says -1)."
                    )
            empty = [
                self._dataset.categories[i] for i, ap in figures.per_category.items() if ap is None
            ]
            if empty:
                yield f"{name} has no instance of {_listed(empty)}: their {kind} figures are empty."
        known = set(self.categories.category_ids)
        used = {a["category_id"] for a in self._dataset.annotations}
        if unknown := [n for i, n in self._dataset.categories.items() if i in used - known]:
            yield f"The model does not know {_listed(unknown)} and misses all of them."
        if left_out := self.categories.category_ids.count(None):
            what = (
                "1 class of the model is"
                if left_out == 1
                else f"{left_out} classes of the model are"
            )
            yield f"{what} not in {name}: detections of it count for nothing."


def _listed(names: list[str]) -> str:
    more = f", ... ({len(names)})" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _objects(entries: Sequence[dict[str, Any]], places: dict[int, int]) -> Objects:
    """Annotations or results of one picture."""
    return Objects(
        boxes=np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4),
        classes=np.array([places[entry["category_id"]] for entry in entries], dtype=np.int64),
        scores=np.array([entry.get("score", 1.0) for entry in entries], dtype=np.float64),
        crowd=np.array([bool(entry.get("iscrowd", 0)) for entry in entries], dtype=np.bool_),
    )


def evaluate_in_detail(
    predict: Callable[[NDArray[np.uint8]], Instances],
    dataset: CocoDataset,
    class_names: Sequence[str],
    *,
    iou_types: Sequence[IouType] | None = None,
    keypoint_sigmas: Sequence[float] | None = None,
    unknown_categories: Literal["refuse", "miss"] = "refuse",
    score_threshold: float = 0.5,
    iou_threshold: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
    keep_answers: bool = True,
) -> DetailedResult:
    """Ask a model for every picture of a data set and say in detail how good its answers are.

    Args:
        predict: answers a picture, (H, W, 3) uint8 RGB; a :class:`models.Predictor` does.
        dataset: the pictures and what is in them.
        class_names, iou_types, keypoint_sigmas, unknown_categories, score_threshold, iou_threshold,
            keep_answers: see :class:`DetailedEvaluator`.
        progress: called with the number of pictures done and of all, after each.

    Raises:
        EvaluationError: a picture cannot be read or has another size than the data set says; or as
            :class:`DetailedEvaluator`.
    """
    evaluator = DetailedEvaluator(
        dataset,
        class_names,
        iou_types,
        keypoint_sigmas=keypoint_sigmas,
        unknown_categories=unknown_categories,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        keep_answers=keep_answers,
    )
    for done, image in enumerate(dataset.images, start=1):
        evaluator.add(image.id, predict(read_picture(image.path, (image.height, image.width))))
        if progress is not None:
            progress(done, len(dataset.images))
    return evaluator.detailed_result()
