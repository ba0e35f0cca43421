"""Figures of the last iterations, summed where they are made and fetched seldom."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.training.distributed import World


class Window:
    """Sums of figures since the last line of the log.

    On a GPU a figure that is fetched makes the host wait for it, and so does a number that is sent
    there: tensors are summed where they are, numbers here.

    Args:
        device: of the losses.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}

    def add(self, figures: Mapping[str, Tensor | float]) -> None:
        """Take the figures of one iteration, scalars by name; some iterations lack some of them."""
        for name, value in figures.items():
            number = value.detach().double() if isinstance(value, Tensor) else float(value)
            self._sums[name] = self._sums.get(name, 0.0) + number
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self, world: World) -> dict[str, float]:
        """The means over the iterations that had a figure, and the processes, and begin anew."""
        mine = {name: total / self._counts[name] for name, total in self._fetched().items()}
        self._sums, self._counts = {}, {}
        everyone = world.gather(mine)
        names = sorted(set().union(*everyone))
        return {
            name: statistics.fmean(means[name] for means in everyone if name in means)
            for name in names
        }

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` takes."""
        return {"sums": self._fetched(), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another window stopped."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])

    def _fetched(self) -> dict[str, float]:
        """The sums as numbers, with one wait for all of them."""
        there = {name: total for name, total in self._sums.items() if isinstance(total, Tensor)}
        if not there:
            return {name: float(total) for name, total in self._sums.items()}
        numbers = torch.stack([total.to(self._device) for total in there.values()]).tolist()
        here = dict(zip(there, numbers, strict=True))
        return {
            name: here[name] if name in here else float(total) for name, total in self._sums.items()
        }
