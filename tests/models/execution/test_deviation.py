"""How differences between two answers are measured."""

from typing import Any

import pytest
import torch

from models import Instances
from models.execution import deviation
from models.structures import Boxes, RotatedBoxes

BOXES = [[0.0, 0.0, 100.0, 100.0], [50.0, 50.0, 90.0, 90.0]]


def found(
    boxes: list[list[float]] = BOXES, scores: tuple[float, ...] = (0.9, 0.5), classes: Any = (1, 2)
) -> dict[str, Any]:
    table = torch.tensor(boxes) if boxes else torch.zeros(0, 4)
    box_type = RotatedBoxes if table.shape[1] == 5 else Boxes
    instances = Instances(
        (200, 200),
        pred_boxes=box_type(table),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
    )
    return {"instances": instances}


def test_equal_answers_do_not_differ() -> None:
    same = deviation([found()], [found()])
    assert (same.instances, same.matched, same.exact) == (2, 1.0, 1.0)
    assert (same.score, same.box_px, same.pixels) == (0.0, 0.0, 0.0)
    assert same.is_exact


def test_the_worst_difference_counts() -> None:
    other = found([[0, 0, 100, 100.5], [50, 50.25, 90, 90]], (0.9, 0.53))
    measured = deviation([found()], [other])
    assert measured.box_px == 0.5
    assert measured.score == pytest.approx(0.03)
    assert (measured.matched, measured.exact) == (1.0, 0.0)
    assert not measured.is_exact


@pytest.mark.parametrize(
    "other",
    [found(classes=(1, 3)), found([BOXES[0], [55.0, 55, 95, 95]]), found(BOXES[:1], (0.9,), (1,))],
)
def test_an_instance_without_a_counterpart(other: dict[str, Any]) -> None:
    measured = deviation([found()], [other])
    assert (measured.matched, measured.exact) == (0.5, 0.5)
    assert measured.score == measured.box_px == 0.0


def test_nothing_at_all_is_found_by_both_or_by_one() -> None:
    nothing = found([], (), ())
    assert deviation([nothing], [nothing]).is_exact
    assert deviation([found()], [nothing]).matched == 0.0


def test_rotated_boxes_and_proposals_are_compared_too() -> None:
    turned = [[50.0, 50.0, 40.0, 20.0, 30.0], [90.0, 90.0, 10.0, 20.0, 0.0]]
    assert deviation([found(turned)], [found(turned)]).exact == 1.0
    proposals = Instances(
        (200, 200),
        proposal_boxes=Boxes(torch.tensor(BOXES)),
        objectness_logits=torch.tensor([3.0, -1.0]),
    )
    other = Instances((200, 200), **proposals.get_fields())
    other.objectness_logits = torch.tensor([3.0, 0.0])
    measured = deviation([{"proposals": proposals}], [{"proposals": other}])
    assert measured.score == pytest.approx(0.5 - 1 / (1 + 2.718281828))


def test_pixels_of_another_class_are_a_share() -> None:
    first = torch.zeros(2, 10, 10)
    first[0] = 1
    second = first.clone()
    second[1, 0, :5] = 2
    measured = deviation([{"sem_seg": first}], [{"sem_seg": second}])
    assert measured.pixels == pytest.approx(0.05)
    assert not measured.is_exact
