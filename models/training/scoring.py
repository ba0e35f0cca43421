"""The evaluations of a training: what was reached, what was best, whether it is worth going on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.config import Config
from models.training.data.dataset import TrainingDataset
from models.training.distributed import World
from models.training.output import write_model
from models.training.run_state import BEST, Best
from models.training.step import Step
from models.training.validation import (
    Measurement,
    ValidationSet,
    best_figure,
    measure,
    no_figure,
)

Told = Callable[[int, int], None]


class Scoring:
    """Measures the model now and then, and keeps the best one.

    Args:
        step: what trains the model.
        cfg: the config of the model.
        data: what it learns from; its class names count.
        val: what it is measured on.
        world: the processes, which share the pictures.
        output: folder of ``model_best.pth``.
        best_by: the figure that decides; None for :func:`models.training.validation.best_figure`.
        note: is told sentences.

    Attributes:
        best: the best evaluation; None before the first, and in all processes but the first.
        best_by: the figure that decides.
    """

    def __init__(
        self,
        step: Step,
        cfg: Config,
        data: TrainingDataset,
        val: ValidationSet,
        *,
        world: World,
        output: Path,
        best_by: str | None,
        note: Callable[[str], None],
    ) -> None:
        self._step, self._cfg, self._data, self._val = step, cfg, data, val
        self._world, self._output, self._note = world, output, note
        self.best: Best | None = None
        self.best_by = best_by or best_figure(val)

    def measured(self, progress: Told | None = None) -> Measurement | None:
        """The figures of the model as it is, in the first process; it is in training mode afterwards."""
        model: Any = self._step.model
        with self._step.averaged():
            # Of statistics that move (batch norm's) each process has its own, and the first one's are
            # written.
            self._world.copy_from_first_(model.buffers())
            names = self._data.class_names
            result = measure(model, self._cfg, self._val, names, self._world, progress)
        self._step.train_mode()
        return result

    def keep_best(self, result: Measurement, iteration: int) -> None:
        """Write ``model_best.pth`` if nothing was better until now.

        Raises:
            CheckpointError: it cannot be written.
        """
        value = result.figures.get(self.best_by)
        if value is None:
            self._note(no_figure(self.best_by, result))
        elif self.best is None or value > self.best.value:
            self.best = Best(value, iteration)
            write_model(self._output, BEST, self._step.weights(), self._cfg, self._data, iteration)

    def is_hopeless(self, iteration: int, period: int, patience: int | None) -> bool:
        """Whether so many evaluations in a row were no better than the best that it is enough.

        The first process knows; the others hear it from there.
        """
        if patience is None:
            return False
        best = self.best
        worse = 0 if best is None else iteration // period - best.iteration // period
        if not self._world.from_first(worse >= patience):
            return False
        if best is not None:
            self._note(
                f"Ends early: in {patience} evaluations {self.best_by} has not become better than the "
                f"{best.value:.1f} after iteration {best.iteration}."
            )
        return True
