"""Clipping: each type against what PyTorch's functions do to one parameter, and the norm before."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models.config import Config, default_config
from models.errors import ConfigError
from models.training.gradient_clipping import clip_gradients_


def _config(**clip: Any) -> Config:
    cfg = default_config().override("SOLVER.CLIP_GRADIENTS.ENABLED", True)
    for key, value in clip.items():
        cfg = cfg.override(f"SOLVER.CLIP_GRADIENTS.{key}", value)
    return cfg


def _parameters(*gradients: list[float] | None) -> list[Tensor]:
    parameters = []
    for gradient in gradients:
        parameters.append(torch.zeros(2, requires_grad=True))
        parameters[-1].grad = None if gradient is None else torch.tensor(gradient)
    return parameters


def _gradients(parameters: list[Tensor]) -> list[list[float] | None]:
    return [None if p.grad is None else p.grad.tolist() for p in parameters]


def test_norm_clips_each_parameter_on_its_own() -> None:
    parameters = _parameters([3.0, 4.0], None, [0.3, 0.4])

    total = clip_gradients_(parameters, _config(CLIP_TYPE="norm", CLIP_VALUE=1.0))

    assert total.item() == pytest.approx(math.sqrt(25.25))
    first, without, second = _gradients(parameters)
    assert first == pytest.approx([0.6, 0.8])
    assert without is None
    assert second == pytest.approx([0.3, 0.4], rel=1e-7)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, float("inf")])
def test_norm_is_exactly_what_pytorch_does_to_one_parameter(norm_type: float) -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(5, 7, generator=generator) * scale for scale in (1e-4, 1.0, 300.0)]
    ours = [torch.zeros(5, 7, requires_grad=True) for _ in gradients]
    theirs = [torch.zeros(5, 7, requires_grad=True) for _ in gradients]
    for mine, other, gradient in zip(ours, theirs, gradients, strict=True):
        mine.grad, other.grad = gradient.clone(), gradient.clone()
        torch.nn.utils.clip_grad_norm_([other], 5.0, norm_type)

    clip_gradients_(ours, _config(CLIP_TYPE="norm", CLIP_VALUE=5.0, NORM_TYPE=norm_type))

    for mine, other in zip(ours, theirs, strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-6, atol=0)


def test_value_bounds_each_element() -> None:
    parameters = _parameters([3.0, -4.0], [0.5, -0.5])

    total = clip_gradients_(parameters, _config(CLIP_TYPE="value", CLIP_VALUE=1.0))

    assert total.item() == pytest.approx(math.sqrt(25.5))
    assert _gradients(parameters) == [[1.0, -1.0], [0.5, -0.5]]


def test_full_model_scales_all_by_their_common_norm() -> None:
    parameters = _parameters([3.0, 0.0], None, [0.0, 4.0])

    total = clip_gradients_(parameters, _config(CLIP_TYPE="full_model", CLIP_VALUE=2.5))

    assert total.item() == pytest.approx(5.0)
    first, without, second = _gradients(parameters)
    assert first == pytest.approx([1.5, 0.0])
    assert without is None
    assert second == pytest.approx([0.0, 2.0])


@pytest.mark.parametrize("clip_type", ["norm", "full_model"])
def test_below_the_bound_nothing_changes_by_a_bit(clip_type: str) -> None:
    parameters = _parameters([0.1, 0.2], [0.3, 0.7])
    before = _gradients(parameters)

    clip_gradients_(parameters, _config(CLIP_TYPE=clip_type, CLIP_VALUE=1.0))

    assert _gradients(parameters) == before


def test_switched_off_it_only_measures() -> None:
    parameters = _parameters([3.0, 4.0])

    total = clip_gradients_(parameters, _config(ENABLED=False, CLIP_VALUE=0.1))

    assert total.item() == pytest.approx(5.0)
    assert _gradients(parameters) == [[3.0, 4.0]]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_shows_in_the_norm(broken: float) -> None:
    total = clip_gradients_(_parameters([1.0, broken], [1.0, 1.0]), _config(CLIP_TYPE="norm"))
    assert not total.isfinite()


def test_no_gradients_have_no_norm() -> None:
    assert clip_gradients_(_parameters(None), _config()).item() == 0.0


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ({"CLIP_TYPE": "global"}, "CLIP_TYPE is 'global'; known: value, norm, full_model"),
        ({"CLIP_VALUE": 0.0}, "CLIP_VALUE is 0.0; it must be above 0"),
        ({"NORM_TYPE": float("nan")}, "NORM_TYPE is nan; it must be above 0"),
    ],
)
def test_settings_that_clip_nothing_are_refused(clip: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        clip_gradients_(_parameters([1.0, 1.0]), _config(**clip))
