"""Per class: COCO's figures, the curve of precision over recall, and the score threshold to serve with.

All of it is read from the arrays of pycocotools, so it agrees with the AP.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.average_precision import IouType, percent
from models.evaluation.coco_dataset import CocoDataset
from models.evaluation.detail import BestThreshold, Curve

_SIZES = {"small": "APs", "medium": "APm", "large": "APl"}
_IOU_50, _IOU_75 = 0, 5
"""Places among COCO's ten IoU thresholds."""


def class_figures(
    evaluation: Any, dataset: CocoDataset, iou_type: IouType
) -> dict[str, dict[str, float | None]]:
    """AP, AP50, AP75, APs, APm, APl, AR and the numbers of instances and detections, by class name.

    Args:
        evaluation: of :func:`models.evaluation.average_precision.run_coco_evaluation`.
        dataset: that it is of. Crowd regions are no instances, nor, for keypoints, instances without
            one that is visible.
        iou_type: that it is of.
    """
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    areas = evaluation.params.areaRngLbl
    instances = dict.fromkeys(dataset.categories, 0)
    for annotation in dataset.annotations:
        if is_measured(annotation, iou_type):
            instances[annotation["category_id"]] += 1
    detections = dict.fromkeys(dataset.categories, 0)
    for detection in evaluation.cocoDt.dataset["annotations"]:
        detections[detection["category_id"]] += 1
    figures: dict[str, dict[str, float | None]] = {}
    for k, (category, name) in enumerate(dataset.categories.items()):
        of_class = precision[:, :, k, :, -1]
        row = {
            "AP": percent(of_class[:, :, 0].mean()),
            "AP50": percent(of_class[_IOU_50, :, 0].mean()),
            "AP75": percent(of_class[_IOU_75, :, 0].mean()),
        }
        for size, figure in _SIZES.items():
            if size in areas:
                row[figure] = percent(of_class[:, :, areas.index(size)].mean())
        row["AR"] = percent(recall[:, k, 0, -1].mean())
        row["instances"] = instances[category]
        row["detections"] = detections[category]
        figures[name] = row
    return figures


def class_curves(evaluation: Any, dataset: CocoDataset) -> dict[str, Curve]:
    """By class name, of classes with instances; see :class:`models.evaluation.detail.Curve`."""
    recall = tuple(evaluation.params.recThrs.tolist())
    curves = {}
    for k, name in enumerate(dataset.categories.values()):
        precision = evaluation.eval["precision"][:, :, k, 0, -1]
        if precision[0, 0] < 0:
            continue
        scores = evaluation.eval["scores"][_IOU_50, :, k, 0, -1]
        curves[name] = Curve(
            recall=recall,
            precision={
                "0.5": tuple(precision[_IOU_50].tolist()),
                "0.75": tuple(precision[_IOU_75].tolist()),
                "0.5:0.95": tuple(precision.mean(axis=0).tolist()),
            },
            # Where precision is 0, nothing was found at this recall.
            scores=tuple(
                score if reached > 0 else None
                for score, reached in zip(scores.tolist(), precision[_IOU_50].tolist(), strict=True)
            ),
        )
    return curves


def best_thresholds(
    evaluation: Any, dataset: CocoDataset, iou_threshold: float
) -> dict[str, BestThreshold]:
    """By class name the score threshold of the best F1, of classes with instances.

    Args:
        evaluation, dataset: see :func:`class_figures`.
        iou_threshold: the nearest of COCO's ten is taken.
    """
    thresholds: NDArray[np.float64] = evaluation.params.iouThrs
    place = int(np.abs(thresholds - iou_threshold).argmin())
    best = {}
    for name, answers in zip(
        dataset.categories.values(), _answers_by_class(evaluation), strict=True
    ):
        instances = sum(int((answer["gtIgnore"] == 0).sum()) for answer in answers)
        if not instances:
            continue
        counts = np.concatenate([~answer["dtIgnore"][place] for answer in answers])
        scores = np.concatenate([answer["dtScores"] for answer in answers])[counts]
        right = np.concatenate([answer["dtMatches"][place] > 0 for answer in answers])[counts]
        best[name] = _best(scores, right, instances, float(round(thresholds[place], 2)))
    return best


def _answers_by_class(evaluation: Any) -> list[list[dict[str, Any]]]:
    """What pycocotools found in each picture, of all sizes, without pictures that have nothing of a
    class: a list per class."""
    images = len(evaluation.params.imgIds)
    stride = len(evaluation.params.areaRng) * images  # "all" is the first of the sizes
    return [
        [answer for answer in evaluation.evalImgs[start : start + images] if answer is not None]
        for start in range(0, len(evaluation.evalImgs), stride)
    ]


def _best(
    scores: NDArray[np.float64], right: NDArray[np.bool_], instances: int, iou_threshold: float
) -> BestThreshold:
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(right[order])
    # A threshold keeps all detections of one score or none.
    ends = np.append(scores[:-1] != scores[1:], True)[: len(scores)]
    kept = (np.arange(len(scores)) + 1)[ends]
    scores, found = scores[ends], found[ends]
    if not len(found) or found[-1] == 0:
        return BestThreshold(None, 0.0, 0.0, 0.0, iou_threshold)
    f1 = 2 * found / (kept + instances)
    i = int(f1.argmax())
    return BestThreshold(
        score=float(scores[i]),
        f1=float(f1[i]),
        precision=float(found[i] / kept[i]),
        recall=float(found[i] / instances),
        iou_threshold=iou_threshold,
    )


def is_measured(annotation: dict[str, Any], iou_type: IouType) -> bool:
    """Whether an annotation is an instance to be found, not a region in which COCO ignores answers."""
    visible = iou_type != "keypoints" or annotation["num_keypoints"] > 0
    return not annotation["iscrowd"] and visible
