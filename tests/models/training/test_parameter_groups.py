"""Parameter groups: Detectron2's rules for rates and decays, and factors for parts of a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from models.config import Config, default_config
from models.errors import ConfigError
from models.training.parameter_groups import build_optimizer, parameter_groups


class Model(nn.Module):
    """A convolution, a norm, a shared layer and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)
        self.same_head = self.head
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def _config(**solver: Any) -> Config:
    cfg = default_config().override("SOLVER.BASE_LR", 0.5).override("SOLVER.WEIGHT_DECAY", 0.25)
    for key, value in solver.items():
        cfg = cfg.override(f"SOLVER.{key}", value)
    return cfg


def _settings(groups: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    return {name: (g["lr"], g["weight_decay"]) for g in groups for name in g["names"]}


def test_norm_layers_have_their_own_decay() -> None:
    groups = parameter_groups(Model(), _config(WEIGHT_DECAY_NORM=0.125))

    assert _settings(groups) == {
        "backbone.0.weight": (0.5, 0.25),
        "backbone.0.bias": (0.5, 0.25),
        "backbone.1.weight": (0.5, 0.125),
        "backbone.1.bias": (0.5, 0.125),
        "head.weight": (0.5, 0.25),
        "head.bias": (0.5, 0.25),
    }


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(8),
        nn.SyncBatchNorm(8),
        nn.GroupNorm(2, 8),
        nn.LayerNorm(8),
        nn.InstanceNorm2d(8, affine=True),
        type("OwnNorm", (nn.BatchNorm2d,), {})(8),
    ],
)
def test_every_kind_of_norm_counts_as_one(norm: nn.Module) -> None:
    groups = parameter_groups(nn.Sequential(norm), _config(WEIGHT_DECAY_NORM=0.125))
    assert _settings(groups) == {"0.weight": (0.5, 0.125), "0.bias": (0.5, 0.125)}


def test_biases_have_their_own_rate_and_decay_in_norm_layers_too() -> None:
    cfg = _config(BIAS_LR_FACTOR=2.0, WEIGHT_DECAY_BIAS=0.0625, WEIGHT_DECAY_NORM=0.125)

    settings = _settings(parameter_groups(Model(), cfg))

    assert settings["head.bias"] == settings["backbone.1.bias"] == (1.0, 0.0625)
    assert settings["head.weight"] == (0.5, 0.25)
    assert settings["backbone.1.weight"] == (0.5, 0.125)


def test_equal_settings_share_a_group_in_which_names_and_parameters_correspond() -> None:
    model = Model()

    groups = parameter_groups(model, _config())

    assert len(groups) == 2
    named = dict(model.named_parameters())
    for group in groups:
        assert group["initial_lr"] == group["lr"]
        pairs = zip(group["names"], group["params"], strict=True)
        assert all(named[name] is parameter for name, parameter in pairs)


def test_a_shared_parameter_comes_once_and_a_frozen_one_never() -> None:
    names = [name for g in parameter_groups(Model(), _config()) for name in g["names"]]

    assert len(names) == len(set(names)) == 6
    assert not any(name.startswith(("same_head", "frozen")) for name in names)


def test_the_longest_beginning_of_a_name_gives_the_factor() -> None:
    factors = {"": 4.0, "backbone": 0.5, "backbone.1": 0.125}

    settings = _settings(parameter_groups(Model(), _config(), multipliers=factors))

    assert settings["backbone.0.weight"] == (0.25, 0.25)
    assert settings["backbone.1.weight"] == (0.0625, 0.0)
    assert settings["head.weight"] == (2.0, 0.25)


def test_a_factor_of_zero_freezes() -> None:
    model = Model()

    groups = parameter_groups(model, _config(), multipliers={"backbone": 0.0})

    assert set(_settings(groups)) == {"head.weight", "head.bias"}
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())


def test_a_beginning_that_fits_nothing_is_refused_with_what_is_close() -> None:
    with pytest.raises(ConfigError, match=r"begins with 'backbon\.0'.* Did you mean backbone"):
        parameter_groups(Model(), _config(), multipliers={"backbon.0": 0.1})


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf")])
def test_a_factor_that_is_no_rate_is_refused(factor: float) -> None:
    with pytest.raises(ConfigError, match="at least 0, and 0 freezes"):
        parameter_groups(Model(), _config(), multipliers={"head": factor})


def test_a_model_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match="Nothing is left to train"):
        parameter_groups(Model(), _config(), multipliers={"": 0.0})


@pytest.mark.parametrize("rate", [0.0, -0.1, float("nan")])
def test_a_base_rate_that_trains_nothing_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"SOLVER\.BASE_LR is .* above 0"):
        parameter_groups(Model(), _config(BASE_LR=rate))


def test_the_optimizer_takes_momentum_and_decay_as_sgd_is_written() -> None:
    layer = nn.Linear(1, 1, bias=False).double()
    optimizer = build_optimizer(layer, _config(MOMENTUM=0.75))
    weight, velocity = layer.weight.item(), 0.0

    for gradient in (1.0, -2.0, 0.5):
        layer.weight.grad = torch.full((1, 1), gradient, dtype=torch.float64)
        optimizer.step()
        velocity = 0.75 * velocity + gradient + 0.25 * weight
        weight -= 0.5 * velocity

    assert layer.weight.item() == pytest.approx(weight, rel=1e-12)


@pytest.mark.parametrize(("momentum", "nesterov"), [(1.0, False), (-0.1, False), (0.0, True)])
def test_a_momentum_that_cannot_be_is_refused(momentum: float, nesterov: bool) -> None:
    with pytest.raises(ConfigError, match=r"SOLVER\.MOMENTUM"):
        build_optimizer(Model(), _config(MOMENTUM=momentum, NESTEROV=nesterov))
