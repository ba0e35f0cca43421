"""A step in float16, as far as a CPU shows it: the scaler of the losses is one for a CPU here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import tiny_model
from tiny_training import tiny_training_config
from tiny_truth import tiny_training_input

from models.training.options import TrainingOptions
from models.training.step import LEAST_SCALE, Step


def step_in_half_precision(scale: float) -> Step:
    model = tiny_model(META_ARCHITECTURE="RetinaNet", RETINANET__BBOX_REG_LOSS_TYPE="smooth_l1")
    step = Step(model, tiny_training_config(), TrainingOptions(log_period=1))
    step.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    step.train_mode()
    return step


def overflowing(step: Step) -> Callable[[Any], dict[str, torch.Tensor]]:
    """What stands for the model: a loss whose gradient is infinite."""
    weight = step.model.head.cls_score.weight
    return lambda batch: {"loss_cls": weight.sum() * torch.inf}


def test_a_step_that_overflows_is_left_out_and_scaled_less() -> None:
    step = step_in_half_precision(1024.0)
    before = step.model.head.cls_score.weight.detach().clone()
    step(overflowing(step), [], 0)
    assert torch.equal(step.model.head.cls_score.weight, before)
    assert step.scaler.get_scale() == 512


def test_a_training_that_only_overflows_ends_with_a_sentence() -> None:
    step = step_in_half_precision(3 * LEAST_SCALE)
    for iteration in range(2):
        step(overflowing(step), [], iteration)
    with pytest.raises(FloatingPointError, match="loss_cls is no longer finite in iteration 3"):
        step(overflowing(step), [], 2)


def test_clipping_sees_gradients_that_are_not_scaled() -> None:
    norms = []
    for scale in (1.0, 4096.0):
        step = step_in_half_precision(scale)
        figures = step(step.model, [tiny_training_input([10.0, 10, 50, 40])], 0)
        norms.append(float(figures["gradient_norm"]))
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


def test_what_was_trained_without_a_scaler_goes_on_with_one() -> None:
    plain = Step(tiny_model(), tiny_training_config(), TrainingOptions())
    assert plain.state_dict()["scaler"] == {}
    scaled = Step(tiny_model(), tiny_training_config(), TrainingOptions())
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaled.load_state_dict(plain.state_dict())
    assert scaled.scaler.get_scale() == 8
