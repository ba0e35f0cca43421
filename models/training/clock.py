"""How long iterations take, and how much of it they wait for pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class Clock:
    """Seconds of an iteration since the last line of the log."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """What has passed until now counts for nothing, such as an evaluation."""
        self._start = time.perf_counter()
        self._waited = 0.0
        self._iterations = 0

    def fetched(self, batches: Iterator[T]) -> T:
        """The next batch."""
        before = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - before
        return batch

    def done(self) -> None:
        """An iteration is done."""
        self._iterations += 1

    def figures(self, batch_size: int, left: int) -> dict[str, float]:
        """For the log, and begin anew; empty without an iteration.

        Args:
            batch_size: pictures an iteration.
            left: iterations that are still to be done.
        """
        if not self._iterations:
            return {}
        seconds = (time.perf_counter() - self._start) / self._iterations
        waited = self._waited / self._iterations
        self.restart()
        return {
            "seconds": seconds,
            "data_seconds": waited,
            "images_per_second": batch_size / seconds,
            "eta_seconds": seconds * left,
        }
