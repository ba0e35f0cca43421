"""Which learning rate and weight decay each weight trains with, and the optimiser over them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from models.config import Config
from models.errors import ConfigError

# The layers that Detectron2 gives WEIGHT_DECAY_NORM; each also stands for its subclasses.
_NORM_LAYERS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.LayerNorm,
)


def parameter_groups(
    model: nn.Module, cfg: Config, *, multipliers: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """The weights that train, one group per distinct learning rate and weight decay.

    As in Detectron2: BASE_LR and WEIGHT_DECAY, but WEIGHT_DECAY_NORM in norm layers; a parameter
    called ``bias`` (a norm layer's too) has BASE_LR * BIAS_LR_FACTOR and, unless it is None,
    WEIGHT_DECAY_BIAS.

    Args:
        model: what trains; parameters that need no gradient are left out, shared ones come once.
        cfg: the root of the config; its SOLVER section is read.
        multipliers: beginning of parameter names -> factor on the learning rate, e.g.
            ``{"backbone": 0.1}``. The longest beginning that fits a name counts, "" fits all. 0
            freezes: such parameters get ``requires_grad = False`` (a batch norm's running statistics
            move on).

    Returns:
        Dicts for a torch optimiser: ``params``, ``lr``, ``weight_decay``, ``initial_lr`` (equal to
        ``lr``; what a schedule multiplies) and ``names`` (of ``params``, in their order).

    Raises:
        ConfigError: a multiplier fits no parameter or is not a number >= 0, the base learning rate
            is not above 0, or nothing is left to train.
    """
    solver = cfg.SOLVER
    if not (solver.BASE_LR > 0 and math.isfinite(solver.BASE_LR)):
        raise ConfigError(f"SOLVER.BASE_LR is {solver.BASE_LR}; it must be above 0.")
    factors = dict(multipliers or {})
    _check_multipliers(factors, model)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for layer, name, parameter in _trainable(model):
        factor = _multiplier(name, factors)
        if factor == 0:
            parameter.requires_grad_(False)
            continue
        rate, decay = solver.BASE_LR, solver.WEIGHT_DECAY
        if isinstance(layer, _NORM_LAYERS):
            decay = solver.WEIGHT_DECAY_NORM
        if name.rpartition(".")[2] == "bias":
            rate *= solver.BIAS_LR_FACTOR
            decay = decay if solver.WEIGHT_DECAY_BIAS is None else solver.WEIGHT_DECAY_BIAS
        rate, decay = float(rate * factor), float(decay)
        group = groups.setdefault(
            (rate, decay),
            {"params": [], "names": [], "lr": rate, "initial_lr": rate, "weight_decay": decay},
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ConfigError(
            "Nothing is left to train: every parameter of the model is frozen. Lower "
            "MODEL.BACKBONE.FREEZE_AT, or leave a part of the model a multiplier above 0."
        )
    return list(groups.values())


def build_optimizer(
    model: nn.Module, cfg: Config, *, multipliers: Mapping[str, float] | None = None
) -> torch.optim.SGD:
    """Stochastic gradient descent over :func:`parameter_groups`, with MOMENTUM and NESTEROV.

    Clipping is not part of its step: see :func:`models.training.gradient_clipping.clip_gradients_`.

    Raises:
        ConfigError: as :func:`parameter_groups`, or the momentum is no fraction.
    """
    momentum, nesterov = cfg.SOLVER.MOMENTUM, cfg.SOLVER.NESTEROV
    if not 0 <= momentum < 1 or (nesterov and momentum == 0):
        raise ConfigError(
            f"SOLVER.MOMENTUM is {momentum}; it must be at least 0 and below 1, and above 0 where "
            "SOLVER.NESTEROV is true."
        )
    groups = parameter_groups(model, cfg, multipliers=multipliers)
    return torch.optim.SGD(
        groups,
        lr=cfg.SOLVER.BASE_LR,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
    )


def _trainable(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """Each parameter that needs a gradient, once, with the layer that holds it and its full name."""
    seen: set[nn.Parameter] = set()
    for prefix, layer in model.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield layer, f"{prefix}.{name}" if prefix else name, parameter


def _multiplier(name: str, multipliers: Mapping[str, float]) -> float:
    fitting = [prefix for prefix in multipliers if name.startswith(prefix)]
    return multipliers[max(fitting, key=len)] if fitting else 1.0


def _module_names(model: nn.Module) -> list[str]:
    parents = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
    return [name for name, _ in model.named_modules() if any(p.startswith(name) for p in parents)]


def _check_multipliers(multipliers: Mapping[str, float], model: nn.Module) -> None:
    names = [name for name, _ in model.named_parameters()]
    for prefix, factor in multipliers.items():
        if not (factor >= 0 and math.isfinite(factor)):
            raise ConfigError(
                f"The learning rate's multiplier of {prefix!r} is {factor}; it must be a number of at "
                "least 0, and 0 freezes."
            )
        if not any(name.startswith(prefix) for name in names):
            close = difflib.get_close_matches(prefix, _module_names(model), n=3)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise ConfigError(
                f"No parameter of the model begins with {prefix!r}, which a learning rate's "
                f"multiplier names.{hint}",
                prefix=prefix,
            )
