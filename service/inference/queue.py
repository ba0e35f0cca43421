"""What waits for the models, and what of it goes next.

Whose turn it is among the models, :class:`Turns` says. Within a model the oldest image decides, and
those like it go along: nothing can be overtaken for ever, whatever its shape. A window (``max_wait``)
holds a batch back that could grow, never one that is full, nor the full ones behind it. A model may
have bounds of its own, see :class:`service.repository.model_settings.Batching`.
"""

from __future__ import annotations

import collections
import itertools
import logging
import time

from service.inference.memory_caps import MemoryCaps
from service.inference.turns import Turns
from service.inference.work import Batch, WorkItem, inference_failed
from service.repository.version import ModelVersion

logger = logging.getLogger(__name__)


class Queue:
    """Images in order of arrival, by model. Not thread-safe: the scheduler's lock guards it.

    Args:
        max_batch_size: images per batch; a model may want fewer.
        max_batch_pixels: padded pixels per batch, likewise; a single image may exceed it.
        max_wait_s: how long an image waits, from its arrival, for company, where its model does not say.
        caps: what the device's memory was found to hold.
        turns: whose turn it is.
    """

    def __init__(
        self,
        *,
        max_batch_size: int,
        max_batch_pixels: int,
        max_wait_s: float,
        caps: MemoryCaps,
        turns: Turns,
    ) -> None:
        self._max_batch_size = max_batch_size
        self._max_batch_pixels = max_batch_pixels
        self._max_wait_s = max_wait_s
        self._caps = caps
        self._turns = turns
        self._items: dict[str, collections.deque[WorkItem]] = {}
        self._held: collections.Counter[str] = collections.Counter()
        self.due_at: float | None = None
        """When the first window ends of those that the last :meth:`take` waits for; None: of none."""

    def __len__(self) -> int:
        return sum(map(len, self._items.values()))

    @property
    def nbytes(self) -> int:
        """Bytes of the images."""
        return sum(item.image.nbytes for items in self._items.values() for item in items)

    def put(self, item: WorkItem) -> None:
        """Add ``item`` at the end."""
        self._items.setdefault(item.model.name, collections.deque()).append(item)

    def clear(self) -> list[WorkItem]:
        """Take everything out."""
        items = list(itertools.chain.from_iterable(self._items.values()))
        self._items = {}
        return items

    def hold(self, model: str) -> None:
        """Leave those images of ``model`` alone that are bound to no version yet; may be nested."""
        self._held[model] += 1

    def release(self, model: str) -> None:
        """End a :meth:`hold`."""
        self._held[model] -= 1

    def take(self, *, between: bool = False) -> Batch | None:
        """Take out the batch that runs now; None when there is none, or none is due.

        Args:
            between: it runs between the parts of a long run: at once, and not a long one itself.
        """
        self._drop_finished()
        self.due_at = None
        waiting = sorted(self._items, key=lambda name: self._items[name][0].enqueued_at)
        for name in self._turns.order(waiting):
            batch = self._first_due(self._items[name], between, held=self._held[name] > 0)
            if batch is not None:
                self._remove(name, batch.items)
                return batch
        self._drop_finished()  # the defective ones
        return None

    def _drop_finished(self) -> None:
        """Forget images that nobody waits for: cancelled, or past their deadline."""
        for name, items in list(self._items.items()):
            if any(item.future.done() for item in items):
                items = collections.deque(item for item in items if not item.future.done())
                self._items[name] = items
            if not items:
                del self._items[name]

    def _remove(self, name: str, taken: list[WorkItem]) -> None:
        ids = set(map(id, taken))
        left = collections.deque(item for item in self._items[name] if id(item) not in ids)
        if left:
            self._items[name] = left
        else:
            del self._items[name]

    def _first_due(
        self, items: collections.deque[WorkItem], between: bool, *, held: bool
    ) -> Batch | None:
        """The batch of the oldest image, or of the next one while that waits for company."""
        rest = [
            item
            for item in items
            if not (between and item.image.views) and not (held and item.lease.version is None)
        ]
        while rest:
            try:
                batch = self._gather(rest)
            except Exception as error:  # a defect of ours: the model thread must go on
                logger.error("a batch could not be gathered", exc_info=error)
                items.remove(rest[0])
                rest.pop(0).resolve(inference_failed())
                continue
            max_wait_s = self._window(batch.version)
            if between or max_wait_s <= 0 or batch.reason != "idle":
                return batch
            due_at = batch.items[0].enqueued_at + max_wait_s
            if due_at <= time.monotonic():
                return Batch(batch.model, batch.version, batch.items, "timeout")
            self.due_at = min(due_at, self.due_at or due_at)
            waiting = set(map(id, batch.items))
            rest = [item for item in rest if id(item) not in waiting]
        return None

    def _window(self, version: ModelVersion) -> float:
        """Seconds that an image of ``version`` waits for company."""
        own = version.detector.description.batching.max_wait_ms
        return self._max_wait_s if own is None else own / 1000

    def _gather(self, items: list[WorkItem]) -> Batch:
        """The oldest of ``items`` and those that can go with it; and why they are no more.

        The current version is read once, since a swap may come at any time.
        """
        oldest = items[0]
        current = oldest.model.current
        key = oldest.key(current)
        version, pixels = key[1], oldest.image.padded_pixels
        own = version.detector.description.batching
        max_pixels = min(self._max_batch_pixels, own.max_batch_pixels or self._max_batch_pixels)
        limits = [
            (min(self._max_batch_size, own.max_batch_size or self._max_batch_size), "full"),
            # All are of one padded size. A single one may exceed the pixels.
            (max(1, max_pixels // pixels), "pixels"),
            (self._caps.most(version, pixels), "memory"),
        ]
        most, reason = min(limits, key=lambda limit: limit[0])
        if oldest.image.views:
            most, reason = 1, "views"
        alike = (item for item in items if item.key(current) == key)
        batch = list(itertools.islice(alike, most))
        return Batch(oldest.model.name, version, batch, reason if len(batch) == most else "idle")
