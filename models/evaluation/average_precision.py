"""COCO's average precision, by pycocotools: from results in COCO's format to named figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal

import numpy as np

from models.evaluation.coco_dataset import CocoDataset

IouType = Literal["bbox", "segm", "keypoints"]

_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
_KEYPOINT_FIGURES = ("AP", "AP50", "AP75", "APm", "APl", "AR")
"""As pycocotools orders them; what it adds behind is recall by size or by overlap."""


@dataclass(frozen=True)
class Figures:
    """0 to 100, or None where the data set has nothing to measure them by.

    Attributes:
        overall: by COCO's names: AP over IoU 0.50 to 0.95, AP50, AP75, of small, medium and large
            instances (APs, APm, APl), and recall with 1, 10 and 100 detections a picture (AR1, ...);
            of keypoints AP, AP50, AP75, APm, APl and AR.
        per_category: AP by category id.
    """

    overall: dict[str, float | None]
    per_category: dict[int, float | None]


def average_precision(
    dataset: CocoDataset,
    results: Sequence[dict[str, Any]],
    iou_type: IouType,
    *,
    keypoint_sigmas: Sequence[float] | None = None,
) -> Figures:
    """Measure results against a data set; pictures without results count as missed.

    Args:
        dataset: its annotations all have what ``iou_type`` needs.
        results: in COCO's format: ``image_id``, ``category_id``, ``score`` and ``bbox`` (XYWH),
            ``segmentation`` (RLE) or ``keypoints``. They are not changed. The area of a result is its
            mask's where masks are measured, else its box's, as Detectron2 has it.
        iou_type: what overlaps are taken of.
        keypoint_sigmas: falloff of each keypoint; None for COCO's 17 of a person.
    """
    evaluation = run_coco_evaluation(dataset, results, iou_type, keypoint_sigmas=keypoint_sigmas)
    return figures_of(evaluation, dataset, iou_type)


def run_coco_evaluation(
    dataset: CocoDataset,
    results: Sequence[dict[str, Any]],
    iou_type: IouType,
    *,
    keypoint_sigmas: Sequence[float] | None = None,
) -> Any:
    """pycocotools's ``COCOeval`` after all its steps, with the arrays that figures and curves are of.

    Args:
        dataset, results, iou_type, keypoint_sigmas: see :func:`average_precision`.
    """
    from pycocotools.cocoeval import COCOeval  # here: importing the library need not take it

    found = [_detection(result, i, iou_type) for i, result in enumerate(results, start=1)]
    images = [{"id": i.id, "height": i.height, "width": i.width} for i in dataset.images]
    categories = [{"id": i, "name": name} for i, name in dataset.categories.items()]
    truth = _coco(images, categories, [dict(annotation) for annotation in dataset.annotations])
    evaluation = COCOeval(truth, _coco(images, categories, found), iou_type)
    if keypoint_sigmas is not None:
        evaluation.params.kpt_oks_sigmas = np.asarray(keypoint_sigmas, dtype=np.float64)
    _quiet(COCOeval.evaluate)(evaluation)
    _quiet(COCOeval.accumulate)(evaluation)
    _quiet(COCOeval.summarize)(evaluation)
    return evaluation


def figures_of(evaluation: Any, dataset: CocoDataset, iou_type: IouType) -> Figures:
    """The named figures of what :func:`run_coco_evaluation` returned."""
    names = _KEYPOINT_FIGURES if iou_type == "keypoints" else _FIGURES
    # IoU thresholds x recalls x categories, of all sizes, with most detections; -1 is "not there".
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return Figures(
        overall={n: percent(v) for n, v in zip(names, evaluation.stats, strict=False)},
        per_category={
            category: percent(precision[:, :, k].mean())
            for k, category in enumerate(dataset.categories)
        },
    )


def _detection(result: dict[str, Any], number: int, iou_type: IouType) -> dict[str, Any]:
    """A result as COCO's evaluation reads it, which pycocotools's ``loadRes`` would make of it."""
    import pycocotools.mask as mask_api

    box = result.get("bbox")
    if iou_type == "segm":
        area = float(mask_api.area(result["segmentation"]))
    elif box is not None:
        area = box[2] * box[3]
    else:
        x, y = result["keypoints"][0::3], result["keypoints"][1::3]
        area = (max(x) - min(x)) * (max(y) - min(y))
    return {**result, "id": number, "area": area, "iscrowd": 0}


def _coco(
    images: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
    _quiet(COCO.createIndex)(coco)
    return coco


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with a ``print`` that does nothing.

    pycocotools prints as it goes. To redirect the output would take that of other threads too.
    """
    original: Any = function
    return FunctionType(
        original.__code__,
        {**original.__globals__, "print": lambda *_: None},
        original.__name__,
        original.__defaults__,
        original.__closure__,
    )


def percent(value: float) -> float | None:
    """A figure of pycocotools in percent; its -1 is None, "nothing to measure by"."""
    return None if value < 0 else float(value) * 100
