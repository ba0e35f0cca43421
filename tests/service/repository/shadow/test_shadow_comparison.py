"""What differs between two answers to one image: counted right on made-up pairs."""

from typing import Any

import pytest
import torch
from fake_detector import FakeDetector

from models.structures import Boxes, Instances, RotatedBoxes
from models.wanted import EVERYTHING, Wanted
from service.inference.detector import ModelDescription
from service.repository.shadow.comparison import (
    ImageDifference,
    compare_predictions,
    wanted_of_candidate,
)

LEFT = [0.0, 0.0, 10.0, 10.0]
RIGHT = [50.0, 0.0, 60.0, 10.0]
LOWER = [0.0, 50.0, 10.0, 60.0]


def described(*names: str, **facts: Any) -> ModelDescription:
    names = names or ("disc", "square")
    return FakeDetector(class_names=names, **({"score_threshold": 0.05} | facts)).description


MODEL = described()


def found(*instances: tuple[list[float], float, int]) -> Instances:
    """Boxes, scores and class ids, best first."""
    boxes, scores, classes = zip(*instances, strict=True) if instances else ([], [], [])
    return Instances(
        (100, 100),
        pred_boxes=Boxes(torch.tensor(boxes)),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
    )


def compare(
    ours: Instances,
    theirs: Instances,
    *,
    current: ModelDescription = MODEL,
    candidate: ModelDescription = MODEL,
    wanted: Wanted = EVERYTHING,
) -> ImageDifference:
    return compare_predictions(ours, theirs, current, candidate, wanted)


def test_equal_answers_do_not_differ() -> None:
    answer = found((LEFT, 0.9, 0), (RIGHT, 0.5, 1))
    assert compare(answer, answer) == ImageDifference(score_shifts=[0.0, 0.0], ious=[1.0, 1.0])


def test_a_score_shift_has_the_sign_of_the_candidate() -> None:
    difference = compare(found((LEFT, 0.75, 0)), found((LEFT, 0.5, 0)))
    assert difference.score_shifts == [-0.25]
    assert difference.largest_shift == 0.25
    assert difference.disagreements == 0


def test_the_overlap_of_a_pair_is_told() -> None:
    difference = compare(found((LEFT, 0.9, 0)), found(([0.0, 0.0, 10.0, 8.0], 0.9, 0)))
    assert difference.ious == pytest.approx([0.8])


def test_one_object_of_another_class_is_a_class_change_and_no_score_shift() -> None:
    difference = compare(found((LEFT, 0.9, 0)), found((LEFT, 0.6, 1)))
    assert difference == ImageDifference(class_changes=[("disc", "square")])


def test_two_boxes_of_different_classes_around_one_object_are_no_class_changes() -> None:
    ours = found((LEFT, 0.9, 0), (LEFT, 0.4, 1))
    theirs = found((LEFT, 0.6, 1), (LEFT, 0.5, 0))
    difference = compare(ours, theirs)
    assert difference.class_changes == []
    assert sorted(difference.score_shifts) == pytest.approx([-0.4, 0.2])


def test_objects_of_one_version_alone_are_told_by_class() -> None:
    difference = compare(found((LEFT, 0.9, 0)), found((RIGHT, 0.8, 1), (LOWER, 0.7, 0)))
    assert difference == ImageDifference(only_current=["disc"], only_candidate=["square", "disc"])
    assert difference.disagreements == 3


@pytest.mark.parametrize("empty", ["ours", "theirs", "both"])
def test_answers_without_instances_are_compared_too(empty: str) -> None:
    one, none = found((LEFT, 0.9, 0)), found()
    ours = none if empty in ("ours", "both") else one
    theirs = none if empty in ("theirs", "both") else one
    difference = compare(ours, theirs)
    assert difference.only_current == (["disc"] if empty == "theirs" else [])
    assert difference.only_candidate == (["disc"] if empty == "ours" else [])


def test_classes_are_compared_by_name_and_not_by_id() -> None:
    swapped = described("square", "disc", "star")
    difference = compare(
        found((LEFT, 0.9, 0), (RIGHT, 0.8, 1)),
        found((LEFT, 0.9, 1), (RIGHT, 0.8, 2)),
        candidate=swapped,
    )
    assert difference.score_shifts == [0.0]
    assert difference.class_changes == [("square", "star")]


def test_rotated_boxes_are_compared_as_such() -> None:
    def rotated(angle: float) -> Instances:
        return Instances(
            (100, 100),
            pred_boxes=RotatedBoxes(torch.tensor([[50.0, 50.0, 40.0, 10.0, angle]])),
            scores=torch.tensor([0.9]),
            pred_classes=torch.tensor([0]),
        )

    assert compare(rotated(0), rotated(0)).ious == pytest.approx([1.0])
    assert compare(rotated(0), rotated(90)).disagreements == 2


# --- like with like ---------------------------------------------------------------------------------


def test_both_answers_are_taken_down_to_the_threshold_of_the_request() -> None:
    difference = compare(
        found((LEFT, 0.9, 0)),
        found((LEFT, 0.9, 0), (RIGHT, 0.4, 0)),
        wanted=Wanted(score_threshold=0.5),
    )
    assert difference.disagreements == 0


@pytest.mark.parametrize("strict", ["current", "candidate"])
def test_both_answers_are_taken_down_to_the_larger_threshold_of_the_models(strict: str) -> None:
    more, less = found((LEFT, 0.9, 0), (RIGHT, 0.2, 0)), found((LEFT, 0.9, 0))
    high = described(score_threshold=0.3)
    if strict == "current":
        difference = compare(less, more, current=high)
    else:
        difference = compare(more, less, candidate=high)
    assert difference.disagreements == 0


def test_what_an_answer_had_no_room_for_is_not_missing_in_it() -> None:
    ours = found((LEFT, 0.9, 0))
    theirs = found((LEFT, 0.9, 0), (LOWER, 0.95, 0), (RIGHT, 0.4, 0))
    difference = compare(ours, theirs, wanted=Wanted(max_detections=1))
    assert difference.only_candidate == ["disc"]  # the one at 0.95 beats the one that was kept


def test_what_the_candidate_had_no_room_for_is_not_missing_in_it() -> None:
    ours = found((LEFT, 0.9, 0), (RIGHT, 0.4, 0), (LOWER, 0.3, 0))
    theirs = found((LEFT, 0.9, 0), (RIGHT, 0.35, 0))
    difference = compare(ours, theirs, candidate=described(max_detections=2))
    assert difference.only_current == []
    assert difference.score_shifts == pytest.approx([0.0, -0.05])


def test_a_negative_maximum_is_none() -> None:
    ours = found((LEFT, 0.9, 0), (RIGHT, 0.4, 0))
    difference = compare(ours, found((LEFT, 0.9, 0)), candidate=described(max_detections=-1))
    assert difference.only_current == ["disc"]


def test_classes_that_the_request_left_out_count_in_a_class_change_alone() -> None:
    ours = found((LEFT, 0.9, 0))
    theirs = found((LEFT, 0.9, 1), (RIGHT, 0.9, 1), (LOWER, 0.9, 0))
    difference = compare(ours, theirs, wanted=Wanted(class_ids=frozenset({0})))
    assert difference.class_changes == [("disc", "square")]
    assert difference.only_candidate == ["disc"]


def test_what_a_model_gave_beyond_what_was_wanted_is_left_out() -> None:
    ours = found((LEFT, 0.9, 0), (RIGHT, 0.8, 1), (LOWER, 0.2, 0))
    theirs = found((LEFT, 0.9, 0))
    wanted = Wanted(score_threshold=0.5, class_ids=frozenset({0}))
    assert compare(ours, theirs, wanted=wanted).disagreements == 0


def test_numbers_that_are_not_finite_have_no_counterpart() -> None:
    broken = found(([float("nan"), 0.0, 10.0, 10.0], 0.9, 0))
    difference = compare(found((LEFT, 0.9, 0)), broken)
    assert (difference.only_current, difference.only_candidate) == (["disc"], ["disc"])
    assert difference.score_shifts == []


def test_the_candidate_is_asked_for_all_classes_above_every_threshold() -> None:
    wanted = Wanted(0.1, class_ids=frozenset({1}), max_detections=3, masks=False)
    asked = wanted_of_candidate(wanted, MODEL, described(score_threshold=0.25))
    assert asked == Wanted(0.25, class_ids=None, max_detections=-1, masks=False)


def test_with_thresholds_of_classes_both_answers_are_complete_from_the_highest_on() -> None:
    wanted = Wanted(0.5, class_thresholds=((0, 0.8), (1, 0.2)), nms_threshold=0.3)
    assert wanted_of_candidate(wanted, MODEL, MODEL) == Wanted(0.8, nms_threshold=0.3)
    ours = found((LEFT, 0.9, 0), (RIGHT, 0.4, 1))
    theirs = found((LEFT, 0.85, 0), (LOWER, 0.7, 0))
    assert compare(ours, theirs, wanted=wanted).disagreements == 0


def test_more_instances_than_the_candidates_own_number_leave_it_complete() -> None:
    ours, theirs = found((LEFT, 0.9, 0), (RIGHT, 0.6, 0)), found((LEFT, 0.9, 0))
    candidate = described(max_detections=1)
    assert compare(ours, theirs, candidate=candidate).only_current == []
    wanted = Wanted(detections_per_image=5)
    assert compare(ours, theirs, candidate=candidate, wanted=wanted).only_current == ["disc"]
