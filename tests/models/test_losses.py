"""Losses of boxes and the focal loss, by hand; nothing to learn from; numbers that ran away."""

import math

import pytest
import torch
from torch import Tensor

from models import Box2BoxTransform, Box2BoxTransformRotated
from models.errors import ConfigError
from models.losses import (
    BOX_LOSSES,
    box_regression_loss,
    require_finite,
    sigmoid_focal_loss,
    smooth_l1_loss,
)

PLAIN = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
SOURCE = torch.tensor([[0.0, 0.0, 10.0, 10.0]])


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        pytest.param(0.0, 0.25 + 3.0, id="L1"),
        pytest.param(1e-6, 0.25 + 3.0, id="so narrow that it is L1"),
        pytest.param(1.0, 0.25**2 / 2 + (3.0 - 0.5), id="a parabola up to 1"),
    ],
)
def test_smooth_l1_is_a_parabola_below_beta(beta: float, expected: float) -> None:
    loss = smooth_l1_loss(torch.tensor([1.25, -1.0]), torch.tensor([1.0, 2.0]), beta)
    assert float(loss) == pytest.approx(expected)


def test_smooth_l1_of_boxes_compares_weighted_deltas() -> None:
    transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    target = torch.tensor([[1.0, 0.0, 11.0, 20.0]])  # moved by (1, 5), twice as high
    loss = box_regression_loss("smooth_l1", transform, torch.zeros(1, 4), SOURCE, target)
    assert float(loss) == pytest.approx(10 * 0.1 + 10 * 0.5 + 5 * math.log(2))


# The source does not move; the target is its right half and as much beyond: IoU 1/3, the box around
# both 15 x 10, their centres 5 apart, its diagonal squared 325.
HALF_BESIDE = torch.tensor([[5.0, 0.0, 15.0, 10.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("giou", 1 - 1 / 3 + (150 - 150) / 150),
        ("diou", 1 - 1 / 3 + 25 / 325),
        ("ciou", 1 - 1 / 3 + 25 / 325),  # of one shape: nothing more
    ],
)
def test_overlap_losses_compare_boxes(name: str, expected: float) -> None:
    loss = box_regression_loss(name, PLAIN, torch.zeros(1, 4), SOURCE, HALF_BESIDE)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_boxes_that_do_not_meet_still_pull_with_giou() -> None:
    deltas = torch.zeros(1, 4, requires_grad=True)
    away = SOURCE + torch.tensor([30.0, 0.0, 30.0, 0.0])
    loss = box_regression_loss("giou", PLAIN, deltas, SOURCE, away)
    assert float(loss.detach()) == pytest.approx(1 + 200 / 400)  # 40 x 10 around two of 100
    loss.backward()
    assert float(deltas.grad[0, 0]) < 0  # to the right it would cost less


def test_ciou_also_compares_shapes() -> None:
    tall = torch.tensor([[0.0, -5.0, 10.0, 15.0]])
    diou, ciou = (
        float(box_regression_loss(name, PLAIN, torch.zeros(1, 4), SOURCE, tall))
        for name in ("diou", "ciou")
    )
    v = 4 / math.pi**2 * (math.atan(1 / 2) - math.atan(1)) ** 2
    assert diou == pytest.approx(0.5)
    assert ciou == pytest.approx(0.5 + v * v / (0.5 + v), abs=1e-6)


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_losses_are_sums(name: str) -> None:
    one = box_regression_loss(name, PLAIN, torch.zeros(1, 4), SOURCE, HALF_BESIDE)
    three = box_regression_loss(
        name, PLAIN, torch.zeros(3, 4), SOURCE.repeat(3, 1), HALF_BESIDE.repeat(3, 1)
    )
    torch.testing.assert_close(three, 3 * one)


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_no_boxes_cost_a_connected_zero(name: str) -> None:
    deltas = torch.ones(2, 4, requires_grad=True)
    none = torch.zeros(0, 4)
    loss = box_regression_loss(name, PLAIN, deltas[:0], none, none)
    loss.backward()
    assert float(loss.detach()) == 0
    assert deltas.grad.tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_half_precision_predictions_cost_in_float32(name: str) -> None:
    loss = box_regression_loss(name, PLAIN, torch.zeros(1, 4).half(), SOURCE, HALF_BESIDE)
    assert loss.dtype == torch.float32


def test_an_unknown_loss_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no box loss 'iou'.*smooth_l1, giou, diou, ciou"):
        box_regression_loss("iou", PLAIN, torch.zeros(1, 4), SOURCE, SOURCE)


def test_overlap_losses_of_rotated_boxes_are_refused() -> None:
    rotated = Box2BoxTransformRotated((1.0,) * 5)
    box = torch.tensor([[5.0, 5.0, 10.0, 10.0, 30.0]])
    with pytest.raises(ConfigError, match="rotated ones need smooth_l1"):
        box_regression_loss("giou", rotated, torch.zeros(1, 5), box, box)
    assert float(box_regression_loss("smooth_l1", rotated, torch.zeros(1, 5), box, box)) == 0


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([0.0, math.log(3.0)])  # probabilities 1/2 and 3/4
    loss = sigmoid_focal_loss(logits, torch.tensor([1, 0]), alpha=0.25, gamma=2.0)
    expected = 0.25 * 0.5**2 * math.log(2) + 0.75 * 0.75**2 * math.log(4)
    assert float(loss) == pytest.approx(expected)


def test_focal_loss_with_a_gamma_of_0_and_no_alpha_is_cross_entropy() -> None:
    logits, targets = torch.tensor([0.3, -2.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])
    loss = sigmoid_focal_loss(logits, targets, alpha=-1, gamma=0)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    torch.testing.assert_close(loss, plain)


def test_focal_loss_of_half_precision_is_float32() -> None:
    assert sigmoid_focal_loss(torch.zeros(2).bfloat16(), torch.ones(2)).dtype == torch.float32


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_diverged_training_is_stopped_with_what_to_do(bad: float) -> None:
    sound: Tensor = torch.zeros(3, 4)
    require_finite("The head", sound)
    with pytest.raises(FloatingPointError, match=r"The head predicts .* SOLVER\.BASE_LR"):
        require_finite("The head", sound, torch.tensor([1.0, bad]))


def test_large_numbers_are_finite_all_the_same() -> None:
    require_finite("The head", torch.full((1000,), 3e38))
