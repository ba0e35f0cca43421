"""Whose turn the device is: the model that has had the least of its time.

Fair queueing by start times (Goyal, Vin and Cheng, 1996): every model has a clock that runs while the
device works for it, and the one that is furthest behind goes next. A model that comes back from a
pause starts at the clock of the last turn: idle time is not saved up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager


class Turn:
    """One stretch of the device's time.

    Attributes:
        seconds: how long it was, what ran in between left out; known when it has ended.
    """

    seconds = 0.0


class Turns:
    """The clocks of the models. Not thread-safe: the model thread alone uses it.

    Args:
        clock: tells seconds; tests give their own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: dict[str, float] = {}
        self._waiting: frozenset[str] = frozenset()
        self._floor = 0.0
        self._within = 0.0

    def order(self, waiting: Collection[str]) -> list[str]:
        """Models with work, whose turn it is first; of equals the first in ``waiting`` goes first.

        Args:
            waiting: all models with work in the queue, no others.
        """
        if not waiting:  # the device is free: nobody owes anybody
            self._used.clear()
        for name in waiting:
            if name not in self._waiting:
                self._used[name] = max(self._used.get(name, 0.0), self._floor)
        self._waiting = frozenset(waiting)
        # Who is not ahead of the floor starts there anyhow.
        self._used = {
            name: used
            for name, used in self._used.items()
            if name in self._waiting or used > self._floor
        }
        return sorted(waiting, key=self._used.__getitem__)

    @contextmanager
    def of(self, model: str | None) -> Iterator[Turn]:
        """The device works for ``model`` (None: for the server) until the block ends.

        A turn within a turn, between the parts of a long run, is charged to its own model alone.
        """
        turn, outer = Turn(), self._within
        self._within = 0.0
        before = self._used.get(model, 0.0) if model is not None else 0.0
        self._floor = max(self._floor, before)
        started = self._clock()
        try:
            yield turn
        finally:
            elapsed = self._clock() - started
            turn.seconds = elapsed - self._within
            self._within = outer + elapsed
            if model is not None:
                self._used[model] = max(self._used.get(model, 0.0), before) + turn.seconds
