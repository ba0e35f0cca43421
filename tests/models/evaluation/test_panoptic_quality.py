"""Panoptic quality: by hand, and against a slow reference that goes pixel by pixel."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from panoptic_files import PanopticFiles

from models.architectures.panoptic_fpn import combine_semantic_and_instance_outputs
from models.evaluation import (
    EvaluationError,
    PanopticDataset,
    PanopticEvaluator,
    PanopticImage,
    PanopticSegment,
    evaluate_panoptic,
)
from models.structures import Boxes, Instances

THINGS = ["cat", "dog"]
STUFF = ["things", "sky", "road"]
CAT, DOG, SKY, ROAD = 1, 2, 5, 6
CATEGORIES = {CAT: "cat", DOG: "dog", SKY: "sky", ROAD: "road"}
SEGMENT_OF = {CAT: (True, 0), DOG: (True, 1), SKY: (False, 1), ROAD: (False, 2)}


def answer(rows: Any, **categories: int) -> Any:
    """A map, and ``s7=CAT`` for each of its segments."""
    segments = []
    for name, category in categories.items():
        is_thing, class_id = SEGMENT_OF[category]
        segments.append({"id": int(name[1:]), "isthing": is_thing, "category_id": class_id})
    return torch.tensor(rows, dtype=torch.int32), segments


def measured(files: PanopticFiles, one: Any, two: Any) -> Any:
    evaluator = PanopticEvaluator(files.load(), THINGS, STUFF)
    evaluator.add(3, one)
    evaluator.add(8, two)
    return evaluator.result()


@pytest.fixture
def files(tmp_path: Path) -> PanopticFiles:
    return PanopticFiles(tmp_path)


ONE = answer([[1, 1, 0, 2], [1, 1, 0, 2]], s1=CAT, s2=SKY)
TWO = answer([[4, 4, 9, 9], [4, 4, 9, 9]], s4=CAT, s9=DOG)


def test_perfect_answers_have_everything(files: PanopticFiles) -> None:
    result = measured(files, ONE, TWO)
    assert result.figures["all"] == {"PQ": 100, "SQ": 100, "RQ": 100, "classes": 3}
    assert (result.figures["things"]["classes"], result.figures["stuff"]["classes"]) == (2, 1)
    assert result.per_class["road"]["PQ"] is None
    assert (result.dataset, result.images) == ("set.json", 2)


def test_figures_by_hand(files: PanopticFiles) -> None:
    """The cat of two is 3 of 4 pixels large and exact; its rest is called dog."""
    two = answer([[4, 4, 9, 9], [4, 9, 9, 9]], s4=CAT, s9=DOG)
    result = measured(files, ONE, two)
    cat, dog = result.per_class["cat"], result.per_class["dog"]
    assert cat == pytest.approx({"PQ": 87.5, "SQ": 87.5, "RQ": 100, "TP": 2, "FP": 0, "FN": 0})
    assert dog == pytest.approx({"PQ": 80, "SQ": 80, "RQ": 100, "TP": 1, "FP": 0, "FN": 0})
    assert result.figures["things"]["PQ"] == pytest.approx((87.5 + 80) / 2)
    assert result.figures["all"]["PQ"] == pytest.approx((87.5 + 80 + 100) / 3)


def test_an_iou_of_one_half_is_no_match(files: PanopticFiles) -> None:
    result = measured(files, ONE, answer([[4, 4, 9, 9], [0, 0, 9, 9]], s4=CAT, s9=DOG))
    assert result.per_class["cat"] == pytest.approx(
        {"PQ": 50, "SQ": 100, "RQ": 50, "TP": 1, "FP": 1, "FN": 1}
    )


def test_the_wrong_category_is_missed_and_false(files: PanopticFiles) -> None:
    result = measured(files, ONE, answer([[4, 4, 9, 9], [4, 4, 9, 9]], s4=CAT, s9=ROAD))
    assert result.per_class["dog"] == {"PQ": 0, "SQ": 0, "RQ": 0, "TP": 0, "FP": 0, "FN": 1}
    assert result.per_class["road"]["FP"] == 1


def test_void_pixels_are_nobodys(files: PanopticFiles) -> None:
    """A segment that reaches into the void is no worse, one that lies on it is not false."""
    reaching = answer([[1, 1, 1, 2], [1, 1, 3, 2]], s1=CAT, s2=SKY, s3=DOG)
    result = measured(files, reaching, TWO)
    assert result.figures["all"]["PQ"] == 100
    assert result.per_class["dog"]["FP"] == 0


def test_crowd_segments_are_neither_found_nor_missed(files: PanopticFiles) -> None:
    files.content["annotations"][0]["segments_info"][1]["iscrowd"] = 1
    many = answer([[4, 4, 7, 9], [4, 4, 7, 9]], s4=CAT, s7=DOG, s9=DOG)
    assert measured(files, ONE, many).per_class["dog"]["PQ"] is None
    nothing = answer([[4, 4, 0, 0], [4, 4, 0, 0]], s4=CAT)
    assert measured(files, ONE, nothing).per_class["dog"]["PQ"] is None
    other = answer([[4, 4, 7, 7], [4, 4, 7, 7]], s4=CAT, s7=CAT)
    assert measured(files, ONE, other).per_class["cat"]["FP"] == 1


def test_classes_that_the_data_set_does_not_know_count_for_nothing(files: PanopticFiles) -> None:
    evaluator = PanopticEvaluator(files.load(), [*THINGS, "bird"], [*STUFF, "sea"])
    ids, segments = ONE
    ids = ids.clone()
    ids[0, 0] = 5
    ids[0, 1] = 6
    extra = [
        {"id": 5, "isthing": True, "category_id": 2},
        {"id": 6, "isthing": False, "category_id": 3},
    ]
    evaluator.add(3, (ids, [*segments, *extra]))
    evaluator.add(8, TWO)
    row = evaluator.result().per_class["cat"]
    assert (row["TP"], row["FP"], row["FN"]) == (1, 1, 1)


def test_nothing_found_misses_all(files: PanopticFiles) -> None:
    nothing = answer([[0] * 4] * 2)
    result = measured(files, nothing, nothing)
    assert result.figures["all"] == {"PQ": 0, "SQ": 0, "RQ": 0, "classes": 3}


def test_answers_that_do_not_belong_here(files: PanopticFiles) -> None:
    evaluator = PanopticEvaluator(files.load(), THINGS, STUFF)
    with pytest.raises(EvaluationError, match="Image 4 is not in the data set"):
        evaluator.add(4, ONE)
    for bad, said in (
        (answer([[1, 1]], s1=CAT), r"of shape \(1, 2\); it has a whole number for each of 2x4"),
        ((torch.zeros(2, 4), []), "is float32 of shape"),
        (answer([[1] * 4] * 2), "has the segment 1, which its list of segments does not know"),
        (answer([[0] * 4] * 2, s1=CAT), "lists the segment 1, which has no pixel"),
        ((ONE[0], [*ONE[1], ONE[1][0]]), "two segments of one id"),
        ((ONE[0], [{"id": 0, "isthing": True, "category_id": 0}]), "or one of id 0"),
        ((ONE[0], [{"id": 1, "isthing": True, "category_id": 2}]), "of class 2; the model has 2"),
    ):
        with pytest.raises(EvaluationError, match=said):
            evaluator.add(3, bad)
    evaluator.add(3, ONE)
    with pytest.raises(EvaluationError, match="Image 3 was added before"):
        evaluator.add(3, ONE)
    with pytest.raises(EvaluationError, match="1 of 2 images have no answer"):
        evaluator.result()


def test_a_map_with_segments_that_the_json_does_not_list(files: PanopticFiles) -> None:
    files.write_map("one", [[1000, 1000, 0, 4], [1000, 1000, 0, 70_000]])
    with pytest.raises(EvaluationError, match=r"one.png has the segment 4, which the JSON"):
        measured(files, ONE, TWO)


def test_placeholders_take_categories_in_the_order_of_their_ids(files: PanopticFiles) -> None:
    evaluator = PanopticEvaluator(
        files.load(), ["class_0", "class_1"], ["stuff_0", "stuff_1", "stuff_2"]
    )
    evaluator.add(3, ONE)
    evaluator.add(8, TWO)
    assert evaluator.result().figures["all"]["PQ"] == 100


@pytest.mark.parametrize(
    ("things", "stuff", "said"),
    [
        (["cat"], STUFF, "set.json has dog, which the model does not know: it has cat"),
        (THINGS, ["things"], r"set.json has sky, which the model does not know: it has \(none\)"),
        (["class_0"], STUFF, "set.json has cat, dog, which"),
    ],
)
def test_names_that_do_not_fit(
    files: PanopticFiles, things: list[str], stuff: list[str], said: str
) -> None:
    with pytest.raises(EvaluationError, match=said):
        PanopticEvaluator(files.load(), things, stuff)


def test_what_panoptic_fpn_answers_is_taken(files: PanopticFiles) -> None:
    instances = Instances(
        (2, 4),
        pred_boxes=Boxes(torch.tensor([[0.0, 0, 2, 2]])),
        scores=torch.tensor([0.9]),
        pred_classes=torch.tensor([0]),
        pred_masks=torch.ones(1, 1, 28, 28),
    )
    panoptic = combine_semantic_and_instance_outputs(
        instances,
        torch.tensor([[0, 0, 0, 1]] * 2),
        overlap_threshold=0.5,
        stuff_area_thresh=0,
        instances_score_thresh=0.5,
    )
    assert measured(files, panoptic, TWO).figures["all"]["PQ"] == 100


def test_a_data_set_is_evaluated_picture_by_picture(files: PanopticFiles) -> None:
    answers = iter([ONE, TWO])
    steps: list[tuple[int, int]] = []
    shapes: list[tuple[int, ...]] = []

    def predict(pixels: NDArray[np.uint8]) -> Any:
        shapes.append(pixels.shape)
        return next(answers)

    result = evaluate_panoptic(
        predict, files.load(), THINGS, STUFF, progress=lambda *step: steps.append(step)
    )
    assert result.figures["all"]["PQ"] == 100
    assert (steps, shapes) == ([(1, 2), (2, 2)], [(2, 4, 3)] * 2)
    assert json.loads(json.dumps(result.to_dict()))["figures"]["stuff"]["classes"] == 1


@pytest.mark.parametrize("seed", range(6))
def test_figures_are_those_of_a_slow_reference(
    seed: int, tmp_path: Path, files: PanopticFiles
) -> None:
    rng = np.random.default_rng(seed)
    images, answers = [], {}
    for i in range(4):
        truth = blocks(rng, 6)
        found = np.where(rng.random(truth.shape) < 0.8, truth, blocks(rng, 6))
        of_truth = {int(s): int(rng.choice(list(CATEGORIES))) for s in np.unique(truth) if s}
        # Mostly the category that is there.
        of_found = {
            int(s): of_truth.get(int(s), CAT) if rng.random() < 0.8 else ROAD
            for s in np.unique(found)
            if s
        }
        crowds = {s for s in of_truth if rng.random() < 0.2}
        files.write_map(f"m{i}", truth)
        segments = tuple(PanopticSegment(s, c, s in crowds) for s, c in of_truth.items())
        path = tmp_path / "set" / f"m{i}.png"
        images.append(PanopticImage(i, path, *truth.shape, path, segments))
        answers[i] = (truth, of_truth, crowds, found, of_found)
    dataset = PanopticDataset("random", tuple(images), CATEGORIES, frozenset({CAT, DOG}))
    evaluator = PanopticEvaluator(dataset, THINGS, STUFF)
    for i, (_, _, _, found, of_found) in answers.items():
        evaluator.add(i, answer(found.tolist(), **{f"s{s}": c for s, c in of_found.items()}))
    expected = reference(list(answers.values()))
    result = evaluator.result()
    for category, name in CATEGORIES.items():
        iou, tp, fp, fn = expected[category]
        row = result.per_class[name]
        assert (row["TP"], row["FP"], row["FN"]) == (tp, fp, fn)
        if tp + fp + fn:
            assert row["PQ"] == pytest.approx(100 * iou / (tp + fp / 2 + fn / 2))


def blocks(rng: np.random.Generator, side: int) -> NDArray[np.int64]:
    """Segments 0 to 5 in squares of four pixels."""
    return np.kron(rng.integers(0, 6, (side, side)), np.ones((2, 2), dtype=np.int64))


def reference(pictures: list[Any]) -> dict[int, tuple[float, int, int, int]]:
    """Of each category sum of IoU, matches, false and missed ones, as the paper defines them."""
    tallies: dict[int, list[float]] = {category: [0.0, 0, 0, 0] for category in CATEGORIES}
    for truth, of_truth, crowds, found, of_found in pictures:
        taken_truth, taken_found = set(), set()
        for t, category in of_truth.items():
            for f, other in of_found.items():
                if t in crowds or category != other:
                    continue
                both = ((truth == t) & (found == f)).sum()
                either = ((truth == t) | ((found == f) & (truth != 0))).sum()
                if both / either > 0.5:
                    tallies[category][0] += both / either
                    tallies[category][1] += 1
                    taken_truth.add(t)
                    taken_found.add(f)
        for t, category in of_truth.items():
            if t not in crowds and t not in taken_truth:
                tallies[category][3] += 1
        for f, category in of_found.items():
            if f in taken_found:
                continue
            ignored = truth == 0
            for t in crowds:
                if of_truth[t] == category:
                    ignored = ignored | (truth == t)
            if ((found == f) & ignored).sum() / (found == f).sum() <= 0.5:
                tallies[category][2] += 1
    return {c: (t[0], int(t[1]), int(t[2]), int(t[3])) for c, t in tallies.items()}
