"""Matcher: labels by ranges of quality, low-quality matches, no ground truth."""

import pytest
import torch

from models import Boxes, Matcher, RotatedBoxes
from models.matcher import overlaps

# Two ground truths, five predictions.
QUALITY = torch.tensor([[0.9, 0.4, 0.0, 0.7, 0.2], [0.1, 0.5, 0.29, 0.3, 0.2]])


def test_each_prediction_goes_to_its_best_ground_truth() -> None:
    matches, labels = Matcher([0.3, 0.7], [0, -1, 1])(QUALITY)
    assert matches.tolist() == [0, 1, 1, 0, 0]
    assert labels.tolist() == [1, -1, 0, 1, 0]
    assert (matches.dtype, labels.dtype) == (torch.int64, torch.int8)


def test_a_quality_on_a_threshold_belongs_to_the_range_above() -> None:
    _, labels = Matcher([0.5], [0, 1])(torch.tensor([[0.5, 0.49999]]))
    assert labels.tolist() == [1, 0]


def test_low_quality_matches_give_each_ground_truth_its_best_predictions() -> None:
    _, labels = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)(QUALITY)
    assert labels.tolist() == [1, 1, 0, 1, 0]


def test_low_quality_matches_include_ties_and_keep_the_matched_index() -> None:
    quality = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.2, 0.2]])
    matches, labels = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)(quality)
    assert labels.tolist() == [1, 1, 1]
    assert matches.tolist() == [0, 1, 1]


def test_a_ground_truth_that_meets_nothing_makes_nothing_positive() -> None:
    quality = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.4, 0.1]])
    _, labels = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)(quality)
    assert labels.tolist() == [0, 1, 0]


def test_without_ground_truth_all_have_the_lowest_label() -> None:
    matches, labels = Matcher([0.3, 0.7], [-1, 0, 1])(torch.zeros(0, 4))
    assert matches.tolist() == [0] * 4
    assert labels.tolist() == [-1] * 4
    assert labels.dtype == torch.int8


def test_without_predictions_there_are_no_labels() -> None:
    matches, labels = Matcher([0.5], [0, 1])(torch.zeros(3, 0))
    assert matches.shape == labels.shape == (0,)


@pytest.mark.parametrize(
    ("thresholds", "labels", "message"),
    [
        ([0.5], [0], "one label more"),
        ([0.5], [0, 2], "-1, 0 or 1"),
        ([0.7, 0.3], [0, -1, 1], "increase"),
        ([0.0], [0, 1], "positive"),
    ],
)
def test_rules_that_make_no_sense_are_refused(
    thresholds: list[float], labels: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Matcher(thresholds, labels)


def test_overlaps_of_upright_and_of_rotated_boxes() -> None:
    upright = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0]])
    rotated = torch.tensor([[5.0, 5.0, 10.0, 10.0, 0.0], [10.0, 5.0, 10.0, 10.0, 180.0]])
    expected = torch.tensor([[1.0, 1 / 3]])
    torch.testing.assert_close(overlaps(Boxes(upright[:1]), Boxes(upright)), expected)
    torch.testing.assert_close(overlaps(RotatedBoxes(rotated[:1]), RotatedBoxes(rotated)), expected)


def test_rotated_and_upright_boxes_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"model's boxes are RotatedBoxes, and gt_boxes .* Boxes"):
        overlaps(Boxes(torch.zeros(1, 4)), RotatedBoxes(torch.zeros(1, 5)))
