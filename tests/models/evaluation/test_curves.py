"""Figures, curves and thresholds of classes, read from pycocotools's arrays."""

import json
from typing import Any

import numpy as np
import pytest
from coco_ap import DATA

from models.evaluation import CocoDataset
from models.evaluation.average_precision import figures_of, run_coco_evaluation
from models.evaluation.curves import best_thresholds, class_curves, class_figures


@pytest.fixture(scope="module")
def shapes() -> CocoDataset:
    return CocoDataset.load(DATA / "val.json")


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    return json.loads((DATA / "detectron2_predictions.json").read_text())  # type: ignore[no-any-return]  # a list, as it was written


@pytest.fixture(scope="module")
def evaluation(shapes: CocoDataset, results: list[dict[str, Any]]) -> Any:
    return run_coco_evaluation(shapes, results, "bbox")


def test_figures_of_classes_are_cocos(evaluation: Any, shapes: CocoDataset) -> None:
    figures = class_figures(evaluation, shapes, "bbox")
    overall = figures_of(evaluation, shapes, "bbox")
    assert {n: f["AP"] for n, f in figures.items()} == {
        shapes.categories[i]: ap for i, ap in overall.per_category.items()
    }
    for name in ("AP50", "AP75", "APs", "APm"):  # each class has instances of these
        mean = np.mean([row[name] for row in figures.values()])
        assert mean == pytest.approx(overall.overall[name])
    recall = np.mean([row["AR"] for row in figures.values()])
    assert recall == pytest.approx(overall.overall["AR100"])


def test_numbers_are_of_the_class(
    evaluation: Any, shapes: CocoDataset, results: list[dict[str, Any]]
) -> None:
    for category, name in shapes.categories.items():
        row = class_figures(evaluation, shapes, "bbox")[name]
        assert row["instances"] == sum(a["category_id"] == category for a in shapes.annotations)
        assert row["detections"] == sum(r["category_id"] == category for r in results)


def test_sizes_that_a_class_does_not_have_are_none(evaluation: Any, shapes: CocoDataset) -> None:
    figures = class_figures(evaluation, shapes, "bbox")
    large = {shapes.categories[a["category_id"]] for a in shapes.annotations if a["area"] >= 96**2}
    assert large
    assert large != set(figures)
    assert {name for name, row in figures.items() if row["APl"] is not None} == large


def test_the_mean_of_a_curve_is_the_ap(evaluation: Any, shapes: CocoDataset) -> None:
    figures = class_figures(evaluation, shapes, "bbox")
    for name, curve in class_curves(evaluation, shapes).items():
        assert len(curve.recall) == 101
        assert curve.recall[50] == 0.5
        for iou, figure in (("0.5", "AP50"), ("0.75", "AP75"), ("0.5:0.95", "AP")):
            assert 100 * np.mean(curve.precision[iou]) == pytest.approx(figures[name][figure])


def test_scores_fall_along_a_curve_and_end_with_what_is_found(
    evaluation: Any, shapes: CocoDataset
) -> None:
    for curve in class_curves(evaluation, shapes).values():
        scores = [score for score in curve.scores if score is not None]
        assert scores == sorted(scores, reverse=True)
        assert [score is None for score in curve.scores] == [p == 0 for p in curve.precision["0.5"]]


@pytest.mark.parametrize("iou", [0.5, 0.75])
def test_no_threshold_has_a_better_f1(
    evaluation: Any, shapes: CocoDataset, results: list[dict[str, Any]], iou: float
) -> None:
    """Tried one by one, each measured anew from what pycocotools matched."""
    place = {0.5: 0, 0.75: 5}[iou]
    best = best_thresholds(evaluation, shapes, iou)
    assert set(best) == set(shapes.categories.values())
    for category, name in shapes.categories.items():
        answers = [
            e
            for e in evaluation.evalImgs
            if e is not None and e["category_id"] == category and e["aRng"] == [0, 1e10]
        ]
        pairs = [
            (score, matched > 0)
            for e in answers
            for score, matched in zip(e["dtScores"], e["dtMatches"][place], strict=True)
        ]
        instances = sum(len(e["gtIds"]) for e in answers)
        tried = {}
        for threshold, _ in pairs:
            kept = [right for score, right in pairs if score >= threshold]
            tried[threshold] = 2 * sum(kept) / (len(kept) + instances)
        assert best[name].iou_threshold == iou
        assert best[name].f1 == pytest.approx(max(tried.values()))
        score = best[name].score
        assert score is not None
        assert tried[score] == pytest.approx(best[name].f1)
        precision, recall = best[name].precision, best[name].recall
        assert 2 * precision * recall / (precision + recall) == pytest.approx(best[name].f1)


def test_a_class_that_is_never_found_has_no_threshold(shapes: CocoDataset) -> None:
    nothing = run_coco_evaluation(shapes, [], "bbox")
    for best in best_thresholds(nothing, shapes, 0.5).values():
        assert (best.score, best.f1) == (None, 0.0)
    for curve in class_curves(nothing, shapes).values():
        assert set(curve.precision["0.5"]) == {0.0}
        assert set(curve.scores) == {None}


def test_a_class_without_instances_has_none_of_it(shapes: CocoDataset) -> None:
    few = shapes.subset(1)
    there = {few.categories[a["category_id"]] for a in few.annotations}
    evaluation = run_coco_evaluation(few, [], "bbox")
    assert there != set(few.categories.values())
    assert set(class_curves(evaluation, few)) == set(best_thresholds(evaluation, few, 0.5)) == there


def test_the_score_of_many_detections_keeps_all_or_none(shapes: CocoDataset) -> None:
    annotation = shapes.annotations[0]
    of_image = {"image_id": annotation["image_id"], "category_id": annotation["category_id"]}
    equal = [{**of_image, "bbox": box, "score": 0.7} for box in (annotation["bbox"], [0, 0, 3, 3])]
    found = best_thresholds(run_coco_evaluation(shapes, equal, "bbox"), shapes, 0.5)
    best = found[shapes.categories[annotation["category_id"]]]
    assert (best.score, best.precision) == (0.7, 0.5)
