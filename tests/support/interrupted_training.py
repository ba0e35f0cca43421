"""A training that somebody stops with Ctrl-C and resumes, beside one that nobody stops."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.training import Trainer
from models.training.trainer import Watcher

Made = Callable[[Path, Watcher | None], Trainer]
"""A new training into a folder, told to a watcher."""


class Interrupter:
    """Presses Ctrl-C once, after an iteration."""

    def __init__(self, iteration: int) -> None:
        self._iteration = iteration

    def step(self, iteration: int, figures: Mapping[str, float]) -> None:
        if iteration == self._iteration:
            self._iteration = 0  # a second time, as an evaluation is told of, would stop it at once
            os.kill(os.getpid(), signal.SIGINT)

    def evaluated(self, done: int, total: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass


def train_whole_and_in_parts(made: Made, folder: Path, *, stop: int) -> tuple[Trainer, Trainer]:
    """One training to its end, and one that is stopped after ``stop`` iterations and resumed."""
    whole = made(folder / "whole", None)
    assert whole.train().finished
    stopped = made(folder / "parts", Interrupter(stop)).train()
    assert (stopped.iteration, stopped.finished) == (stop, False)
    resumed = made(folder / "parts", None)
    resumed.resume()
    assert resumed.iteration == stop
    assert resumed.train().finished
    return whole, resumed


def assert_same_end(whole: Trainer, resumed: Trainer) -> None:
    """Both have the same bits: the weights, the momentum, and what the model keeps beside its state."""
    states = [
        torch.load(trainer.output / "last.pth", weights_only=True) for trainer in (whole, resumed)
    ]
    first, second = (_tensors(state) for state in states)
    assert first.keys() == second.keys()
    assert any(name.startswith("momentum.") for name in first)
    different = [name for name, value in first.items() if not torch.equal(value, second[name])]
    assert not different
    assert whole.model.training_state() == resumed.model.training_state()
    for name in ("ranks", "best", "iteration"):
        ours, theirs = (repr(state[name]) for state in states)  # numbers by their last digit
        assert ours == theirs, name


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Of a checkpoint: the weights, and the momentum of each."""
    moving = state["trainer"]["optimizer"]["state"]
    momentum = {f"momentum.{i}": value["momentum_buffer"] for i, value in moving.items()}
    return {**state["model"], **momentum}
