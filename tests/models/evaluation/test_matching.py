"""Instances of two answers find each other, one to one; their differences add up."""

from typing import Any

import pytest
import torch

from models.evaluation import Difference, Matching, difference, match_instances
from models.structures import Boxes, Instances, RotatedBoxes

LEFT, RIGHT = [0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 60.0, 10.0]


def found(*rows: tuple[list[float], float, int], rotated: bool = False) -> Instances:
    """Instances by box, score and class."""
    boxes = torch.tensor([box for box, _, _ in rows])
    return Instances(
        (100, 100),
        pred_boxes=RotatedBoxes(boxes) if rotated else Boxes(boxes),
        scores=torch.tensor([score for _, score, _ in rows]),
        pred_classes=torch.tensor([class_id for _, _, class_id in rows], dtype=torch.int64),
    )


def test_pairs_are_found_in_any_order_and_the_rest_is_told() -> None:
    a = found((LEFT, 0.9, 1), (RIGHT, 0.8, 1), ([0, 50, 10, 60], 0.7, 1))
    b = found((RIGHT, 0.8, 1), ([30, 30, 40, 40], 0.6, 1), (LEFT, 0.5, 1))
    assert match_instances(a, b) == Matching(((0, 2), (1, 0)), (1.0, 1.0), (2,), (1,))


def test_one_to_one_and_the_best_score_chooses_first() -> None:
    near, far = [0.0, 0.0, 10.0, 11.0], [0.0, 0.0, 10.0, 14.0]
    a, b = found((far, 0.3, 1), (LEFT, 0.9, 1)), found((near, 0.5, 1))
    matching = match_instances(a, b)
    assert (matching.pairs, matching.only_a) == (((1, 0),), (0,))


def test_the_threshold_is_the_least_overlap() -> None:
    a, b = found((LEFT, 0.9, 1)), found(([0, 0, 10, 5], 0.9, 1))
    assert match_instances(a, b, 0.5).pairs == ((0, 0),)
    assert match_instances(a, b, 0.51).pairs == ()


def test_two_classes_of_one_object_each_find_their_own() -> None:
    a = found((LEFT, 0.9, 1), (LEFT, 0.4, 2))
    b = found((LEFT, 0.6, 2), ([0, 0, 10, 11], 0.5, 1))
    assert match_instances(a, b).pairs == ((0, 1), (1, 0))


def test_a_changed_class_is_matched_unless_classes_must_be_equal() -> None:
    a, b = found((LEFT, 0.9, 1)), found((LEFT, 0.9, 2))
    assert match_instances(a, b).pairs == ((0, 0),)
    assert match_instances(a, b, same_class=True) == Matching((), (), (0,), (0,))


@pytest.mark.parametrize("rotated", [False, True])
def test_nothing_in_one_or_both(rotated: bool) -> None:
    box = [5.0, 5.0, 4.0, 2.0, 30.0] if rotated else LEFT
    one = found((box, 0.9, 1), rotated=rotated)
    nothing = one[torch.zeros(1, dtype=torch.bool)]
    assert match_instances(one, nothing) == Matching((), (), (0,), ())
    assert match_instances(nothing, one) == Matching((), (), (), (0,))
    assert difference(nothing, nothing) == Difference()


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_has_no_counterpart(rotated: bool, value: float) -> None:
    box = [5.0, 5.0, 4.0, 2.0, 30.0] if rotated else LEFT
    sound = found((box, 0.9, 1), (box, 0.8, 1), rotated=rotated)
    broken = found((box, value, 1), ([value, *box[1:]], 0.8, 1), rotated=rotated)
    for a, b in ((sound, broken), (broken, sound), (broken, broken)):
        assert match_instances(a, b) == Matching((), (), (0, 1), (0, 1))


def test_rotated_boxes_match_rotated_ones_alone() -> None:
    a = found(([50, 50, 40, 20, 30], 0.9, 1), rotated=True)
    b = found(([50, 50, 40, 20, 211], 0.9, 1), rotated=True)
    assert match_instances(a, b).pairs == ((0, 0),)
    assert difference(a, b).box_px_max == pytest.approx(1)  # half a turn and a degree
    assert match_instances(a, found((LEFT, 0.9, 1))).pairs == ()


def test_differences_of_pairs() -> None:
    a = found((LEFT, 0.9, 1), (RIGHT, 0.5, 2), ([0, 50, 10, 60], 0.7, 3))
    b = found(([0, 0, 10, 8], 0.8, 1), (RIGHT, 0.75, 4), ([30, 30, 40, 40], 0.6, 1))
    measured = difference(a, b)
    assert (measured.matched, measured.only_a, measured.only_b) == (2, 1, 1)
    assert measured.matched_share == pytest.approx(4 / 6)
    assert measured.iou_min == pytest.approx(0.8)
    assert measured.iou_mean == pytest.approx(0.9)
    assert measured.score_shift_mean == pytest.approx(0.075)
    assert measured.score_shift_max == pytest.approx(0.25)
    assert measured.box_px_max == 2
    assert measured.class_changes == {(2, 4): 1}
    assert measured.mask_iou_min is None


def test_masks_are_compared_where_wanted() -> None:
    a, b = found((LEFT, 0.9, 1), (RIGHT, 0.9, 1)), found((LEFT, 0.9, 1), (RIGHT, 0.9, 1))
    a.pred_masks = torch.zeros(2, 100, 100, dtype=torch.bool)
    a.pred_masks[0, :10, :10] = True
    b.pred_masks = a.pred_masks.clone()
    assert difference(a, b, masks=True).mask_iou_min == 1  # of two empty ones too
    b.pred_masks[0, :5] = False
    assert difference(a, b, masks=True).mask_iou_min == pytest.approx(0.5)


def test_differences_add_up() -> None:
    a = found((LEFT, 0.9, 1))
    first = difference(a, found(([0, 0, 10, 8], 0.8, 2)))
    second = difference(a, found(([0, 0, 10, 9], 0.7, 2), (RIGHT, 0.4, 1)))
    total = sum((first, second), start=Difference())
    assert (total.matched, total.only_a, total.only_b) == (2, 0, 1)
    assert total.iou_min == pytest.approx(0.8)
    assert total.iou_mean == pytest.approx(0.85)
    assert total.score_shift_mean == pytest.approx(-0.15)
    assert total.score_shift_max == pytest.approx(0.2)
    assert total.class_changes == {(1, 2): 2}
    assert total.box_px_max == 2


def test_as_json_the_most_frequent_class_change_comes_first() -> None:
    content: dict[str, Any] = Difference(class_changes={(1, 2): 1, (5, 3): 4}).to_dict()
    assert content["class_changes"] == [
        {"from": 5, "to": 3, "count": 4},
        {"from": 1, "to": 2, "count": 1},
    ]
    assert content["matched_share"] == content["iou_mean"] == 1
    assert content["score_shift_mean"] == 0
