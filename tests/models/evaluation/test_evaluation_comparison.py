"""Two evaluations side by side."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.evaluation import (
    CocoResult,
    Comparison,
    Confusion,
    DetailedResult,
    EvaluationError,
    ImageVerdict,
    Match,
    compare,
)


def verdict(image_id: int, found: list[int], *, false: int = 0, total: int = 3) -> ImageVerdict:
    return ImageVerdict(
        image_id,
        Path(f"{image_id}.png"),
        tuple(Match(truth, n, 0.9, True) for n, truth in enumerate(found)),
        tuple(range(false)),
        tuple(i for i in range(total) if i not in found),
    )


def result(
    images: list[ImageVerdict], ap: float | None = 50.0, **per_class: float | None
) -> DetailedResult:
    return DetailedResult(
        result=CocoResult(
            figures={"bbox": {"AP": ap}},
            per_class={"bbox": per_class},
            dataset="set.json",
            images=len(images),
            instances=9,
            detections=9,
            classes_matched_by="name",
            classes_left_out=0,
        ),
        per_class={},
        curves={},
        thresholds={},
        confusion=Confusion(tuple(per_class), ((0,),), 0.5, 0.5),
        images=tuple(images),
    )


def example() -> Comparison:
    before = [verdict(1, [0]), verdict(2, [0, 1]), verdict(3, [0]), verdict(4, [1], false=1)]
    after = [verdict(1, [0, 1, 2]), verdict(2, [1]), verdict(3, [2]), verdict(4, [1])]
    return compare(
        result(before, 50.0, cat=60.0, dog=40.0, ring=None),
        result(after, 53.0, cat=58.0, dog=30.5, ring=70.0),
    )


def test_figures_before_and_after() -> None:
    found = example()
    assert found.figures["bbox"]["AP"].difference == pytest.approx(3)
    assert found.per_class["bbox"]["dog"].to_dict() == {
        "before": 40.0,
        "after": 30.5,
        "difference": -9.5,
    }
    assert found.per_class["bbox"]["ring"].difference is None


def test_what_was_forgotten_is_told_with_the_worst_first() -> None:
    assert list(example().forgotten("bbox")) == ["dog", "cat"]
    assert list(example().forgotten("bbox", least=5)) == ["dog"]
    assert example().forgotten("segm") == {}


def test_pictures_gain_and_lose_instances() -> None:
    images = example().images
    assert [image.verdict for image in images] == ["better", "worse", "same", "better"]
    assert [image.gained for image in images] == [(1, 2), (), (2,), ()]
    assert [image.lost for image in images] == [(), (0,), (0,), ()]


def test_an_instance_taken_for_another_class_is_not_found() -> None:
    confused = replace(verdict(1, [0, 1, 2]), matches=(Match(0, 0, 0.9, False),))
    found = compare(result([verdict(1, [0])]), result([confused]))
    assert found.images[0].lost == (0,)


def test_pictures_that_changed_most_come_first() -> None:
    found = example()
    assert [image.image_id for image in found.most_improved(9)] == [1, 4]
    assert [image.image_id for image in found.most_improved(1)] == [1]
    assert [image.image_id for image in found.most_worsened(9)] == [2]
    assert (found.count("better"), found.count("worse"), found.count("same")) == (2, 1, 1)


def test_the_comparison_is_json() -> None:
    content = json.loads(json.dumps(example().to_dict()))
    assert (content["better"], content["worse"], content["same"]) == (2, 1, 1)
    assert content["images"][3] == {
        "image_id": 4,
        "file": "4.png",
        "verdict": "better",
        "goodness_before": 0.4,
        "goodness_after": 0.5,
        "gained": [],
        "lost": [],
        "false_positives_before": 1,
        "false_positives_after": 0,
    }


def test_an_evaluation_is_the_same_as_itself() -> None:
    one = result([verdict(1, [0], false=2), verdict(2, [])], cat=1.0)
    found = compare(one, one)
    assert found.count("same") == 2
    assert found.forgotten("bbox") == {}


@pytest.mark.parametrize("images", [[verdict(1, [])], [verdict(1, []), verdict(3, [])]])
def test_other_pictures_cannot_be_compared(images: list[ImageVerdict]) -> None:
    with pytest.raises(EvaluationError, match="different data sets"):
        compare(result([verdict(1, []), verdict(2, [])]), result(images))


def test_other_thresholds_cannot_be_compared() -> None:
    one = result([verdict(1, [])])
    other = replace(one, confusion=replace(one.confusion, score_threshold=0.3))
    with pytest.raises(EvaluationError, match="different score or IoU thresholds"):
        compare(one, other)
