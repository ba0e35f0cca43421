"""What the device's memory has been found to hold: how large a batch may be after one was too large.

Memory grows with the pixels of a batch (features) and with its images (proposals, RoIs), so a batch
is taken as too large only when it has more of both than what was let through: what small images
taught does not hold large ones back, and a large shape teaches the ones near it. A cap belongs to one
version of a model and is forgotten with it.

Memory may be short for a while only, as when a reload holds two versions: a cap doubles after a time.
Should that fail, one batch runs in halves, and the next attempt waits twice as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from service.repository.version import ModelVersion

FIRST_PATIENCE_S = 600.0
LAST_PATIENCE_S = 86_400.0


@dataclass(frozen=True)
class Cap:
    """A batch has at most so many images, or else at most so many padded pixels."""

    images: int
    pixels: int

    def most(self, padded_pixels: int) -> int:
        """Images of ``padded_pixels`` each that may run together."""
        return max(self.images, self.pixels // padded_pixels)


@dataclass
class _Memory:
    """What is known of one version."""

    caps: list[Cap] = field(default_factory=list)
    patience_s: float = FIRST_PATIENCE_S
    raise_at: float = 0.0
    raised: bool = False


class MemoryCaps:
    """The caps of all versions. Not thread-safe: the model thread alone uses it.

    Args:
        max_batch_size: a cap that reaches it is none.
        changed: told a version and its tightest cap, or None when it has none any more.
        clock: tells seconds; tests give their own.
    """

    def __init__(
        self,
        *,
        max_batch_size: int,
        changed: Callable[[ModelVersion, Cap | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_batch_size = max_batch_size
        self._changed = changed
        self._clock = clock
        self._memories: WeakKeyDictionary[ModelVersion, _Memory] = WeakKeyDictionary()

    def most(self, version: ModelVersion, padded_pixels: int) -> int:
        """Images of ``padded_pixels`` each that may run together as far as memory is known."""
        memory = self._memories.get(version)
        if memory is None or not memory.caps:
            return self._max_batch_size
        if self._clock() >= memory.raise_at:
            self._raise(version, memory)
        return min((cap.most(padded_pixels) for cap in memory.caps), default=self._max_batch_size)

    def too_large(self, version: ModelVersion, images: int, padded_pixels: int) -> Cap:
        """A batch of two ``images`` or more ran out of memory; the cap is half of it."""
        memory = self._memories.setdefault(version, _Memory())
        now = self._clock()
        if memory.raised:
            again = now < memory.raise_at
            memory.patience_s = (
                min(2 * memory.patience_s, LAST_PATIENCE_S) if again else FIRST_PATIENCE_S
            )
        memory.raised = False
        memory.raise_at = now + memory.patience_s
        half = (images + 1) // 2
        cap = Cap(half, half * padded_pixels)
        tighter = [c for c in memory.caps if c.images < cap.images or c.pixels < cap.pixels]
        memory.caps = [*tighter, cap]
        self._changed(version, _tightest(memory))
        return cap

    def _raise(self, version: ModelVersion, memory: _Memory) -> None:
        doubled = [Cap(2 * cap.images, 2 * cap.pixels) for cap in memory.caps]
        memory.caps = [cap for cap in doubled if cap.images < self._max_batch_size]
        memory.raised = True
        memory.raise_at = self._clock() + memory.patience_s
        self._changed(version, _tightest(memory))


def _tightest(memory: _Memory) -> Cap | None:
    return min(memory.caps, key=lambda cap: (cap.images, cap.pixels), default=None)
