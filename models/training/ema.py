"""An exponential moving average of a model's weights, which often evaluates better than they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import CheckpointError


class ModelEma:
    """The average of a model's state dict over its training steps.

    Floating tensors (parameters and running statistics) are averaged, others copied. Early on the
    decay is min(decay, (1 + n) / (10 + n)) after n updates, so that the random start is soon
    forgotten.

    Args:
        model: its present state is where the average begins; the model itself, not DDP's
            wrapper.
        decay: how much of the average an update keeps, in [0, 1), e.g. 0.9998.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"The decay of an average is at least 0 and below 1, not {decay}.")
        self.decay = decay
        self.updates = 0
        self.averages: dict[str, Tensor] = {
            name: value.detach().clone() for name, value in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average towards the model's present state; call it after each step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = model.state_dict()
        averaged = [name for name, value in current.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.averages[name] for name in averaged],
            [current[name] for name in averaged],
            1 - decay,
        )
        for name in current.keys() - set(averaged):
            self.averages[name].copy_(current[name])
        self.updates += 1

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """Within it, ``model`` computes with the averages; after it, with its own weights again.

        The values change, the tensors stay the same objects, so an optimiser over them is not
        disturbed. Do not train inside.
        """
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        _copy_(self.averages, model)
        try:
            yield
        finally:
            _copy_(own, model)

    def state_dict(self) -> dict[str, Any]:
        """``decay``, ``updates`` and ``averages``, which are the tensors themselves, not copies."""
        return {"decay": self.decay, "updates": self.updates, "averages": dict(self.averages)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues an average from what :meth:`state_dict` gave; the decay stays this object's.

        Raises:
            CheckpointError: it is the average of another model; nothing changes then.
        """
        averages, updates = state.get("averages"), state.get("updates")
        shapes = {name: value.shape for name, value in self.averages.items()}
        if (
            not isinstance(averages, Mapping)
            or not isinstance(updates, int)
            or shapes != {name: getattr(value, "shape", None) for name, value in averages.items()}
        ):
            raise CheckpointError(
                "The checkpoint's averaged weights are those of another model: their names or shapes "
                "differ. Resume with the config that it was trained with, or without averaging."
            )
        for name, value in averages.items():
            self.averages[name].copy_(value)
        self.updates = updates


@torch.no_grad()
def _copy_(values: Mapping[str, Tensor], model: nn.Module) -> None:
    for name, value in model.state_dict().items():
        value.copy_(values[name])
