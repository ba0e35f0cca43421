"""Who watches a training, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from models.training.run_state import Best
from models.training.validation import Measurement


class Watcher(Protocol):
    """Who is told how a training goes; see :class:`models.training.progress.Progress`."""

    def step(self, iteration: int, figures: Mapping[str, float]) -> None:
        """An iteration is done; ``figures`` are the means since the last line, or empty."""

    def evaluated(self, done: int, total: int) -> None:
        """So many pictures of an evaluation are done."""

    def note(self, text: str) -> None:
        """Something happened that a reader of the log wants to know."""


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        iteration: how many are done.
        finished: all that were wanted, or as many as ``patience`` had; else it was stopped and can be
            resumed.
        before, after: how good it was before the first and after the last iteration, where it was
            measured; the first as :meth:`Measurement.to_dict` gives it.
        best: the best evaluation.
        best_by: by this figure.
        classes: per class the AP before and after; see :func:`models.training.validation.forgetting`.
    """

    iteration: int
    finished: bool
    before: dict[str, Any] | None
    after: Measurement | None
    best: Best | None
    best_by: str
    classes: list[dict[str, Any]]
