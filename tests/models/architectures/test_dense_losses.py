"""Losses at every cell, against numbers computed by hand."""

import math

import pytest
import torch

from models import Box2BoxTransform
from models.architectures.dense_losses import dense_box_loss, dense_class_loss, positive_anchors

TRANSFORM = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
LN2 = math.log(2)


def class_loss(labels: list[list[int]], *levels: torch.Tensor) -> torch.Tensor:
    return dense_class_loss(list(levels), torch.tensor(labels), alpha=0.25, gamma=2.0)


def test_positives_are_neither_ignored_nor_background() -> None:
    image, anchor = positive_anchors(torch.tensor([[2, 0, -1], [1, 2, -1]]), 2)
    assert (image.tolist(), anchor.tolist()) == ([0, 1], [1, 0])


def test_the_class_loss_weighs_what_is_there_by_alpha() -> None:
    # Two classes with a probability of one half each: one that is there and three that are not.
    loss = class_loss([[0, 2]], torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))
    assert float(loss) == pytest.approx((0.25 + 3 * 0.75) * 0.25 * LN2)


def test_a_sure_answer_costs_little() -> None:
    p = torch.tensor(2.0).sigmoid()
    loss = class_loss([[0]], torch.tensor([[[2.0, -2.0]]]))
    assert float(loss) == pytest.approx(float((1 - p) ** 2 * -torch.log(p)), rel=1e-5)


def test_an_ignored_anchor_costs_nothing() -> None:
    logits = torch.tensor([[[0.0, 0.0], [9.0, 9.0]]])
    assert float(class_loss([[2, -1]], logits)) == pytest.approx(2 * 0.75 * 0.25 * LN2)


def test_if_all_anchors_are_ignored_the_loss_is_a_connected_zero() -> None:
    logits = torch.ones(1, 3, 2, requires_grad=True)
    loss = class_loss([[-1, -1, -1]], logits)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


ANCHORS = torch.tensor([[0.0, 0, 10, 10], [20.0, 0, 30, 10]])
TARGETS = torch.tensor([[[0.0, 0, 10, 10], [25.0, 0, 35, 10]]])  # the second one half a width on


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("smooth_l1", 0.5),
        ("giou", 1 - 1 / 3),
        ("diou", 1 - 1 / 3 + 25 / 325),
        ("ciou", 1 - 1 / 3 + 25 / 325),
    ],
)
def test_positive_anchors_pay_for_their_boxes(loss_type: str, expected: float) -> None:
    positive = positive_anchors(torch.tensor([[0, 1]]), 2)
    deltas = [torch.zeros(1, 1, 4), torch.zeros(1, 1, 4)]
    loss = dense_box_loss(loss_type, TRANSFORM, ANCHORS, deltas, positive, TARGETS)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss_type", ["smooth_l1", "giou", "diou", "ciou"])
def test_without_positives_the_box_loss_is_a_connected_zero(loss_type: str) -> None:
    positive = positive_anchors(torch.tensor([[2, -1]]), 2)
    deltas = torch.ones(1, 2, 4, requires_grad=True)
    loss = dense_box_loss(loss_type, TRANSFORM, ANCHORS, [deltas], positive, TARGETS)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not deltas.grad.any()


def test_predictions_that_ran_away_stop_the_training() -> None:
    with pytest.raises(FloatingPointError, match="classifier of the dense head"):
        class_loss([[0]], torch.tensor([[[math.nan, 0.0]]]))
    deltas = [torch.full((1, 2, 4), math.inf)]
    positive = positive_anchors(torch.tensor([[0, 1]]), 2)
    with pytest.raises(FloatingPointError, match="box regressor of the dense head"):
        dense_box_loss("smooth_l1", TRANSFORM, ANCHORS, deltas, positive, TARGETS)
