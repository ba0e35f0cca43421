"""What the parts of a detailed result say of themselves."""

from pathlib import Path

import pytest

from models.evaluation import BestThreshold, CocoResult, Confusion, Curve, DetailedResult
from models.evaluation.detail import PRECISIONS, ImageVerdict, Match

RECALL = tuple(i / 100 for i in range(101))


def verdict(image_id: int, right: int, confused: int, false: int, missed: int) -> ImageVerdict:
    matches = [Match(i, i, 0.9, i < right) for i in range(right + confused)]
    return ImageVerdict(
        image_id, Path(f"folder/{image_id}.png"), tuple(matches), (0,) * false, (0,) * missed
    )


def curve(value: float) -> Curve:
    return Curve(RECALL, dict.fromkeys(PRECISIONS, (value,) * 101), (None,) * 101)


def result(*images: ImageVerdict, curves: dict[str, Curve] | None = None) -> DetailedResult:
    return DetailedResult(
        result=CocoResult({}, {}, "set.json", len(images), 0, 0, "name", 0),
        per_class={"bbox": {"cat": {"AP": 12.34567, "APl": None, "instances": 3}}},
        curves={"bbox": curves or {}},
        thresholds={"bbox": {"cat": BestThreshold(0.99999, 2 / 3, 0.5, 1.0, 0.5)}},
        confusion=Confusion(("cat", "dog"), ((1, 2, 0), (5, 1, 0), (0, 0, 0)), 0.5, 0.5),
        images=images,
        answers={3: ({"image_id": 3}, {"image_id": 3}), 8: ({"image_id": 8},)},
    )


@pytest.mark.parametrize(
    ("counts", "goodness"),
    [
        ((2, 0, 0, 0), 1.0),
        ((0, 0, 0, 0), 1.0),
        ((0, 0, 1, 0), 0.0),
        ((0, 0, 0, 1), 0.0),
        ((2, 0, 1, 1), 2 / 3),
        ((2, 1, 0, 0), 2 / 3),
    ],
)
def test_goodness_is_the_f1_of_a_picture(
    counts: tuple[int, int, int, int], goodness: float
) -> None:
    image = verdict(3, *counts)
    assert image.goodness == pytest.approx(goodness)
    assert image.errors == sum(counts[1:])


def test_the_worst_pictures_come_first_and_perfect_ones_not_at_all() -> None:
    found = result(
        verdict(1, 2, 0, 0, 0),
        verdict(2, 1, 0, 1, 0),
        verdict(3, 0, 0, 1, 0),
        verdict(4, 0, 0, 2, 0),
    )
    assert [image.image_id for image in found.worst(9)] == [4, 3, 2]
    assert [image.image_id for image in found.worst(1)] == [4]


def test_the_most_frequent_confusions() -> None:
    assert result().confusion.worst(9) == [("dog", "cat", 5), ("cat", "dog", 2)]
    assert result().confusion.worst(1) == [("dog", "cat", 5)]


def test_the_mean_curve_weighs_classes_alike() -> None:
    both = result(curves={"cat": curve(1.0), "dog": curve(0.5)})
    mean = both.mean_curve("bbox")
    assert mean is not None
    assert mean.precision["0.75"] == (0.75,) * 101
    assert result().mean_curve("bbox") is None
    assert both.mean_curve("segm") is None


def test_answers_are_one_list_for_a_results_file_and_not_in_the_json() -> None:
    assert [row["image_id"] for row in result().coco_results()] == [3, 3, 8]
    assert "answers" not in result().to_dict()


def test_as_json() -> None:
    content = result(verdict(3, 1, 0, 0, 0), curves={"cat": curve(1 / 3)}).to_dict()
    assert content["per_class"]["bbox"]["cat"] == {"AP": 12.346, "APl": None, "instances": 3}
    assert content["curves"]["bbox"]["cat"]["precision"]["0.5"][7] == 0.3333
    assert content["curves"]["bbox"]["cat"]["scores"][7] is None
    assert content["confusion"]["matrix"] == [[1, 2, 0], [5, 1, 0], [0, 0, 0]]
    (image,) = content["images"]
    assert (image["file"], image["goodness"], image["true_positives"]) == ("3.png", 1.0, 1)
    assert image["matches"] == [{"truth": 0, "detection": 0, "iou": 0.9, "same_class": True}]


def test_a_threshold_is_rounded_down_so_that_it_keeps_its_detection() -> None:
    assert result().to_dict()["thresholds"]["bbox"]["cat"]["score"] == 0.9999
    assert BestThreshold(None, 0.0, 0.0, 0.0, 0.5).to_dict()["score"] is None
