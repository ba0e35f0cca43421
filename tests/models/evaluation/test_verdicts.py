"""Right, false, missed and confused detections of a picture, and their matrix."""

from pathlib import Path

import numpy as np
import pytest

from models.evaluation import CocoDataset, ImageVerdict
from models.evaluation.average_precision import run_coco_evaluation
from models.evaluation.coco_dataset import CocoImage
from models.evaluation.verdicts import Objects, confusion_matrix, judge

BOX = [10.0, 10, 20, 20]
SHIFTED = [14.0, 10, 20, 20]  # IoU 2/3 with BOX
AWAY = [60.0, 60, 20, 20]


def objects(*rows: tuple[int, list[float]], scores: list[float] | None = None) -> Objects:
    return Objects(
        boxes=np.array([box for _, box in rows], dtype=np.float64).reshape(-1, 4),
        classes=np.array([c for c, _ in rows], dtype=np.int64),
        scores=np.array(scores if scores is not None else [0.9] * len(rows)),
        crowd=np.zeros(len(rows), dtype=np.bool_),
    )


def with_crowd(truth: Objects, *places: int) -> Objects:
    truth.crowd[list(places)] = True
    return truth


def judged(truth: Objects, found: Objects, iou: float = 0.5, score: float = 0.5) -> ImageVerdict:
    outcome = judge(truth, found, iou_threshold=iou, score_threshold=score)
    return ImageVerdict(1, Path("one.png"), *outcome)


def counts(verdict: ImageVerdict) -> tuple[int, int, int, int]:
    return (
        verdict.true_positives,
        verdict.false_positives,
        verdict.false_negatives,
        verdict.confused,
    )


def test_a_detection_of_its_class_is_right() -> None:
    verdict = judged(objects((0, AWAY), (1, BOX)), objects((1, SHIFTED)))
    (match,) = verdict.matches
    assert (match.truth, match.detection, match.same_class) == (1, 0, True)
    assert match.iou == pytest.approx(2 / 3)
    assert (verdict.false, verdict.missed) == ((), (0,))


def test_the_best_score_takes_the_instance_and_the_other_is_false() -> None:
    verdict = judged(objects((0, BOX)), objects((0, SHIFTED), (0, BOX), scores=[0.9, 0.8]))
    assert [m.detection for m in verdict.matches] == [0]
    assert verdict.false == (1,)


def test_another_class_is_a_confusion_unless_its_own_is_there() -> None:
    assert counts(judged(objects((0, BOX)), objects((1, BOX)))) == (0, 0, 0, 1)
    both = objects((1, BOX), (0, SHIFTED), scores=[0.9, 0.6])
    assert counts(judged(objects((0, BOX)), both)) == (1, 1, 0, 0)


def test_below_the_thresholds_nothing_counts() -> None:
    low = objects((0, BOX), scores=[0.49])
    assert counts(judged(objects((0, BOX)), low)) == (0, 0, 1, 0)
    assert counts(judged(objects((0, BOX)), low, score=0.49)) == (1, 0, 0, 0)
    near = objects((0, SHIFTED))
    assert counts(judged(objects((0, BOX)), near, iou=0.67)) == (0, 1, 1, 0)
    assert counts(judged(objects((0, BOX)), objects((0, BOX)), iou=1.0)) == (1, 0, 0, 0)


def test_on_a_crowd_region_detections_are_ignored_and_it_is_not_missed() -> None:
    crowd = with_crowd(objects((0, [0.0, 0, 100, 100])), 0)
    verdict = judged(crowd, objects((0, BOX), (0, AWAY)))
    assert (counts(verdict), verdict.goodness) == ((0, 0, 0, 0), 1.0)
    assert counts(judged(crowd, objects((1, BOX)))) == (0, 1, 0, 0)


def test_an_instance_is_found_before_a_crowd_region_ignores() -> None:
    truth = with_crowd(objects((0, [0.0, 0, 100, 100]), (0, BOX)), 0)
    assert counts(judged(truth, objects((0, BOX)))) == (1, 0, 0, 0)


def test_nothing_there_and_nothing_found() -> None:
    assert counts(judged(objects(), objects())) == (0, 0, 0, 0)
    assert counts(judged(objects(), objects((0, BOX)))) == (0, 1, 0, 0)
    assert counts(judged(objects((0, BOX)), objects())) == (0, 0, 1, 0)


def test_the_matrix_has_the_truth_in_rows_and_nothing_last() -> None:
    truth = objects((0, BOX), (1, AWAY), (1, [0.0, 80, 10, 10]))
    found = objects((0, BOX), (0, AWAY), (1, [40.0, 0, 10, 10]))
    other = objects(), objects((0, BOX))
    matrix = confusion_matrix(
        [judged(truth, found), judged(*other)], [truth, other[0]], [found, other[1]], 2
    )
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [1, 1, 0]]
    assert confusion_matrix([], [], [], 1).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_matches_within_classes_are_cocos(seed: int) -> None:
    """Whatever the boxes, with crowd regions and equal overlaps among them."""
    rng = np.random.default_rng(seed)
    truths = [random_objects(rng, 8, with_crowds=True) for _ in range(20)]
    answers = [random_objects(rng, 20) for _ in range(20)]
    dataset = CocoDataset(
        "random",
        tuple(CocoImage(i + 1, Path("x.png"), 100, 100) for i in range(20)),
        {1: "a", 2: "b", 3: "c"},
        tuple(
            {"image_id": i + 1, "area": box[2] * box[3], "iscrowd": int(crowd), **row, "id": n}
            for n, (i, box, crowd, row) in enumerate(rows(truths), start=1)
        ),
    )
    results = [{"image_id": i + 1, **row} for i, _, _, row in rows(answers)]
    evaluation = run_coco_evaluation(dataset, results, "bbox")
    of_all_sizes = [
        e
        for e in evaluation.evalImgs
        if e is not None and e["aRng"] == evaluation.params.areaRng[0]
    ]
    for i, (truth, found) in enumerate(zip(truths, answers, strict=True)):
        verdict = judged(truth, found, score=0.4)
        mine = [e for e in of_all_sizes if e["image_id"] == i + 1]
        right = wrong = 0
        for e in mine:
            kept = (np.array(e["dtScores"]) >= 0.4) & ~e["dtIgnore"][0]
            right += int((kept & (e["dtMatches"][0] > 0)).sum())
            wrong += int((kept & (e["dtMatches"][0] == 0)).sum())
        assert verdict.true_positives == right
        assert verdict.false_positives + verdict.confused == wrong


def random_objects(rng: np.random.Generator, number: int, *, with_crowds: bool = False) -> Objects:
    """On a coarse grid, so that boxes often coincide."""
    boxes = 10.0 * rng.integers((0, 0, 1, 1), (5, 5, 5, 5), (number, 4))
    return Objects(
        boxes=boxes,
        classes=rng.integers(0, 3, number),
        scores=rng.permutation(number) / number,
        crowd=rng.random(number) < (0.2 if with_crowds else 0),
    )


def rows(pictures: list[Objects]) -> list[tuple[int, list[float], bool, dict[str, object]]]:
    found = []
    for i, picture in enumerate(pictures):
        columns = (picture.boxes, picture.classes, picture.scores, picture.crowd)
        for box, class_id, score, crowd in zip(*(c.tolist() for c in columns), strict=True):
            row = {"bbox": box, "category_id": class_id + 1, "score": score}
            found.append((i, box, crowd, row))
    return found
