"""Figures of the last iterations, summed where they are made and fetched seldom."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import torch
from torch import Tensor

from models.training.distributed import World


class Window:
    """Sums of figures since the last line of the log.

    On a GPU a figure that is fetched makes the host wait for it, so they are summed there.

    Args:
        device: of the losses.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._iterations = 0

    def add(self, figures: Mapping[str, Tensor | float]) -> None:
        """Take the figures of one iteration, scalars by name."""
        for name, value in figures.items():
            tensor = torch.as_tensor(value, device=self._device).detach().double()
            known = self._sums.get(name)
            self._sums[name] = tensor.clone() if known is None else known + tensor
        self._iterations += 1

    def means(self, world: World) -> dict[str, float]:
        """The means over the iterations and the processes, and begin anew."""
        if not self._iterations:
            return {}
        mine = {name: float(total) / self._iterations for name, total in self._sums.items()}
        self._sums, self._iterations = {}, 0
        everyone = world.gather(mine)
        names = sorted(set().union(*everyone))
        return {
            name: statistics.fmean(means[name] for means in everyone if name in means)
            for name in names
        }

    def state_dict(self) -> dict[str, float]:
        """What :meth:`load_state_dict` takes."""
        return {name: float(value) for name, value in self._sums.items()} | {
            "iterations": self._iterations
        }

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on where another window stopped."""
        self._iterations = int(state["iterations"])
        self._sums = {
            name: torch.tensor(value, dtype=torch.float64, device=self._device)
            for name, value in state.items()
            if name != "iterations"
        }
