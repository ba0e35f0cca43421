"""A detailed evaluation: its AP is the plain one's, its pictures add up to its confusion."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from coco_ap import DATA
from coco_files import DatasetFiles
from numpy.typing import NDArray

from models.evaluation import (
    CocoDataset,
    DetailedEvaluator,
    DetailedResult,
    EvaluationError,
    evaluate_in_detail,
)
from models.structures import Boxes, Instances

EXPECTED = json.loads((DATA / "metrics.json").read_text())["plain"]
NAMES = ["cat", "dog", "bird"]
CAT, DOG, BIRD = 0, 1, 2
SIZES = {3: (40, 60), 8: (50, 70)}
PERFECT = {
    3: [(CAT, [10.0, 10, 30, 30]), (DOG, [30.0, 5, 40, 35])],
    8: [(DOG, [0.0, 0, 40, 40])],
}


def answer(size: tuple[int, int], found: list[Any], score: float = 0.9) -> Instances:
    return Instances(
        size,
        pred_boxes=Boxes(torch.tensor([box for _, box in found]).reshape(-1, 4)),
        scores=torch.full((len(found),), score),
        pred_classes=torch.tensor([c for c, _ in found], dtype=torch.int64),
    )


def measured(files: DatasetFiles, answers: dict[int, Any], **options: Any) -> DetailedResult:
    evaluator = DetailedEvaluator(files.load(), options.pop("names", NAMES), **options)
    for image_id, found in answers.items():
        given = found if isinstance(found, Instances) else answer(SIZES[image_id], found)
        evaluator.add(image_id, given)
    return evaluator.detailed_result()


@pytest.fixture(scope="module")
def shapes() -> DetailedResult:
    """Of Detectron2's own answers."""
    dataset = CocoDataset.load(DATA / "val.json")
    evaluator = DetailedEvaluator(dataset, list(dataset.categories.values()))
    results = json.loads((DATA / "detectron2_predictions.json").read_text())
    for image in dataset.images:
        mine = [result for result in results if result["image_id"] == image.id]
        boxes = torch.tensor([r["bbox"] for r in mine], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = Instances(
            (image.height, image.width),
            pred_boxes=Boxes(boxes),
            scores=torch.tensor([r["score"] for r in mine], dtype=torch.float64),
            pred_classes=torch.tensor([r["category_id"] - 1 for r in mine], dtype=torch.int64),
            pred_masks=[r["segmentation"] for r in mine],
        )
        evaluator.add(image.id, found)
    return evaluator.detailed_result()


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_ap_is_detectron2s(shapes: DetailedResult, kind: str) -> None:
    assert shapes.result.ap(kind) == pytest.approx(EXPECTED[kind]["AP"], abs=1e-3)
    for name, row in shapes.per_class[kind].items():
        assert row["AP"] == shapes.result.per_class[kind][name]
        assert row["AP"] == pytest.approx(EXPECTED[kind][f"AP-{name}"], abs=1e-3)


def test_pictures_add_up_to_the_confusion(shapes: DetailedResult) -> None:
    matrix = np.array(shapes.confusion.matrix)
    images = shapes.images
    assert matrix[:-1, :-1].trace() == sum(i.true_positives for i in images) > 0
    assert matrix[-1].sum() == sum(i.false_positives for i in images) > 0
    assert matrix[:, -1].sum() == sum(i.false_negatives for i in images) > 0
    confused = matrix[:-1, :-1].sum() - matrix[:-1, :-1].trace()
    assert confused == sum(i.confused for i in images) > 0
    assert matrix[:-1].sum() == shapes.result.instances


def test_places_of_matches_are_of_annotations_and_answers(shapes: DetailedResult) -> None:
    dataset = CocoDataset.load(DATA / "val.json")
    for image in shapes.images:
        annotations = [a for a in dataset.annotations if a["image_id"] == image.image_id]
        answers = shapes.answers[image.image_id]
        for match in image.matches:
            truth, found = annotations[match.truth], answers[match.detection]
            assert (truth["category_id"] == found["category_id"]) == match.same_class
            assert found["score"] >= 0.5
            assert match.iou == pytest.approx(iou(truth["bbox"], found["bbox"]))
        assert {*image.missed, *(m.truth for m in image.matches)} == set(range(len(annotations)))


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def test_the_whole_result_is_json(shapes: DetailedResult) -> None:
    content = json.loads(json.dumps(shapes.to_dict()))
    assert content["result"]["figures"]["bbox"]["AP"] == pytest.approx(69.808, abs=1e-3)
    assert len(content["images"]) == shapes.result.images
    assert len(shapes.coco_results()) == shapes.result.detections


def test_perfect_answers_confuse_nothing(files: DatasetFiles) -> None:
    result = measured(files, PERFECT)
    assert result.result.ap() == pytest.approx(100)
    assert result.confusion.names == ("dog", "cat")
    assert result.confusion.matrix == ((2, 0, 0), (0, 1, 0), (0, 0, 0))
    assert [image.path.name for image in result.images] == ["one.png", "two.png"]
    assert result.worst(5) == []
    best = result.thresholds["bbox"]["dog"]
    assert (best.f1, best.score) == (1.0, pytest.approx(0.9))


def test_ap_is_of_all_detections_whatever_the_score_threshold(files: DatasetFiles) -> None:
    low = {i: answer(SIZES[i], found, score=0.3) for i, found in PERFECT.items()}
    result = measured(files, low)
    assert result.result.ap() == pytest.approx(100)
    assert [image.false_negatives for image in result.images] == [2, 1]
    assert measured(files, low, score_threshold=0.3 - 1e-6).worst(5) == []


def test_detections_on_a_crowd_region_are_neither_right_nor_false(files: DatasetFiles) -> None:
    files.content["annotations"][2]["iscrowd"] = 1
    found = {3: PERFECT[3], 8: [(DOG, [0.0, 0, 20, 20]), (DOG, [20.0, 20, 40, 40])]}
    result = measured(files, found)
    assert result.result.ap() == pytest.approx(100)
    assert result.per_class["bbox"]["dog"]["instances"] == 1
    assert result.confusion.matrix == ((1, 0, 0), (0, 1, 0), (0, 0, 0))
    assert result.thresholds["bbox"]["dog"].precision == 1.0


def test_answers_come_in_any_order_and_need_not_be_kept(files: DatasetFiles) -> None:
    backwards = dict(reversed(PERFECT.items()))
    result = measured(files, backwards)
    assert [image.image_id for image in result.images] == list(result.answers) == [3, 8]
    assert result.answers[8][0]["bbox"] == [0, 0, 40, 40]
    assert measured(files, PERFECT, keep_answers=False).answers == {}


def test_what_has_no_figure_is_explained(files: DatasetFiles) -> None:
    notes = " ".join(measured(files, PERFECT).notes)
    assert (
        "No instance of set.json is large (an area of 96x96 pixels or more): APl of bbox" in notes
    )
    assert "is small" not in notes
    assert "1 class of the model is not in set.json" in notes


def test_a_class_without_instances_is_explained(files: DatasetFiles) -> None:
    files.content["categories"].append({"id": 9, "name": "bird"})
    result = measured(files, PERFECT)
    assert "set.json has no instance of bird: their bbox figures are empty." in result.notes
    row = result.per_class["bbox"]["bird"]
    assert (row["AP"], row["AR"], row["instances"], row["detections"]) == (None, None, 0, 0)


def test_a_data_set_without_instances_is_explained(files: DatasetFiles) -> None:
    files.content["annotations"] = []
    result = measured(files, PERFECT)
    assert (
        "No instance of set.json can be measured by bbox: all its figures are empty."
        in result.notes
    )
    assert result.confusion.matrix == ((0, 0, 0), (0, 0, 0), (2, 1, 0))
    assert result.curves == result.thresholds == {"bbox": {}}


def test_a_model_that_misses_categories_is_told_to(files: DatasetFiles) -> None:
    cats = {3: PERFECT[3][:1], 8: []}
    result = measured(files, cats, names=["cat"], unknown_categories="miss")
    assert result.result.per_class["bbox"] == pytest.approx({"dog": 0, "cat": 100})
    assert "The model does not know dog and misses all of them." in result.notes


def test_nothing_found_at_all(files: DatasetFiles) -> None:
    result = measured(files, {3: [], 8: []})
    assert result.result.ap() == 0
    assert result.thresholds["bbox"]["cat"].score is None
    assert result.confusion.matrix == ((0, 0, 2), (0, 0, 1), (0, 0, 0))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("score_threshold", -0.1),
        ("score_threshold", 1.1),
        ("iou_threshold", 0.0),
        ("iou_threshold", 2),
    ],
)
def test_thresholds_that_cannot_be(files: DatasetFiles, option: str, value: float) -> None:
    with pytest.raises(EvaluationError, match=r"threshold is .*; it is"):
        measured(files, PERFECT, **{option: value})


def test_pictures_that_lack_an_answer(files: DatasetFiles) -> None:
    with pytest.raises(EvaluationError, match="1 of 2 images have no answer"):
        measured(files, {3: []})


def test_evaluate_in_detail_shows_every_picture(files: DatasetFiles) -> None:
    ids = {size: image_id for image_id, size in SIZES.items()}

    def predict(pixels: NDArray[np.uint8]) -> Instances:
        size = (pixels.shape[0], pixels.shape[1])
        return answer(size, PERFECT[ids[size]])

    steps: list[tuple[int, int]] = []
    result = evaluate_in_detail(
        predict, files.load(), NAMES, progress=lambda *step: steps.append(step)
    )
    assert result.result.ap() == pytest.approx(100)
    assert steps == [(1, 2), (2, 2)]
