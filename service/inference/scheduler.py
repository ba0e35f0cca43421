"""The queue in front of the models, and the one long-lived thread that runs them.

Batches hold images of one model and one padded size, so an answer never depends on who shares its
batch. An idle model never waits (unless ``max_wait`` says so), batches form while it is busy. What
goes next :mod:`service.inference.queue` says; how it runs, :mod:`service.inference.execution`.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from service.errors import QueueFull, TooLarge
from service.inference.detector import PreparedImage
from service.inference.device_errors import DeviceLost
from service.inference.execution import BatchRunner
from service.inference.memory_caps import Cap, MemoryCaps
from service.inference.queue import Queue
from service.inference.threads import use_cores
from service.inference.turns import Turns
from service.inference.work import (
    Abandoned,
    Batch,
    Call,
    CurrentVersion,
    GuardedObserver,
    Inference,
    SchedulerObserver,
    WorkItem,
    draining,
    server_failed,
)
from service.repository.version import ModelVersion, RequestLease

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Scheduler:
    """Owns the model thread.

    Args:
        max_batch_size: images per batch.
        max_batch_pixels: padded pixels per batch; a single image may exceed it.
        max_wait_s: how long an idle model waits, from the oldest image's arrival, for company.
        max_queue: images that may be reserved at a time, see :meth:`reserve`.
        model_threads: intra-op threads of the model thread.
        observer: is told of every batch.
    """

    def __init__(
        self,
        *,
        max_batch_size: int,
        max_batch_pixels: int,
        max_wait_s: float,
        max_queue: int,
        model_threads: int,
        observer: SchedulerObserver,
    ) -> None:
        self._max_queue = max_queue
        self._observer = GuardedObserver(observer)
        self._model_threads = model_threads
        self._condition = threading.Condition()
        caps = MemoryCaps(max_batch_size=max_batch_size, changed=self._tell_cap)
        self._turns = Turns()
        self._queue = Queue(
            max_batch_size=max_batch_size,
            max_batch_pixels=max_batch_pixels,
            max_wait_s=max_wait_s,
            caps=caps,
            turns=self._turns,
        )
        self._runner = BatchRunner(caps=caps, observer=self._observer)
        self._calls: collections.deque[Call[Any]] = collections.deque()
        self._idle_calls: collections.deque[Call[Any]] = collections.deque()
        self._reserved = 0
        self._seconds_per_image = 0.0
        self._stopping = False
        self._failure: str | None = None
        self._busy_since: float | None = None
        self._heartbeat = time.time()
        self._thread = threading.Thread(target=self._run_forever, name="model", daemon=True)
        self._thread.start()

    # --- admission, on the event loop ---------------------------------------------------------

    @property
    def depth(self) -> int:
        """Images in the house: being decoded, queued, running or being encoded."""
        return self._reserved

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        with self._condition:
            return len(self._queue)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the prepared images in the queue."""
        with self._condition:
            return self._queue.nbytes

    def reserve(self, images: int) -> None:
        """Take places for ``images`` images; give them back with :meth:`unreserve`.

        Raises:
            TooLarge: there will never be room for that many at a time.
            QueueFull: there is no room; ``Retry-After`` says when there will be.
        """
        if images > self._max_queue:
            raise TooLarge(
                "too_many_images",
                f"The request holds {images} images; the server takes {self._max_queue} at a time. "
                "Send them in several requests.",
                limit=self._max_queue,
                value=images,
            )
        self.require_room(images)
        self._reserved += images

    def require_room(self, images: int = 1) -> None:
        """Raise :class:`QueueFull` if there is no room for ``images`` images now."""
        if self._reserved + images <= self._max_queue:
            return
        retry_after = max(1, math.ceil(self._reserved * self._seconds_per_image))
        raise QueueFull(
            "queue_full",
            f"The server is busy with {self._reserved} images and takes {self._max_queue} at most. "
            f"Try again in {retry_after} s.",
            retry_after=retry_after,
            queued=self._reserved,
            capacity=self._max_queue,
        )

    def unreserve(self, images: int) -> None:
        """Give places back."""
        self._reserved -= images

    async def infer(
        self, model: CurrentVersion, image: PreparedImage, lease: RequestLease
    ) -> Inference:
        """Queue one image and wait for its answer; cancelling the wait drops the work.

        Raises:
            StalePreparation: prepare the image again and call once more.
            ApiError: the model failed on this image, or the server is stopping.
        """
        loop = asyncio.get_running_loop()
        item = WorkItem(model, image, lease, loop, loop.create_future())
        with self._condition:
            self._check_open()
            self._queue.put(item)
            self._condition.notify()
        return await item.future

    def call(self, function: Callable[[], T], *, when_idle: bool = False) -> Future[T]:
        """Run ``function`` on the model thread between two batches.

        Args:
            function: what to run.
            when_idle: only when nothing else is there to run; under full load that is never.

        Raises:
            ApiError: the server is stopping, or can run nothing any more.
        """
        call = Call(function)
        with self._condition:
            self._check_open()
            (self._idle_calls if when_idle else self._calls).append(call)
            self._condition.notify()
        return call.future

    @contextmanager
    def hold(self, model: str) -> Iterator[None]:
        """Within the block no further request of ``model`` is bound to a version: what is bound already
        runs, the rest waits."""
        with self._condition:
            self._queue.hold(model)
        try:
            yield
        finally:
            with self._condition:
                self._queue.release(model)
                self._condition.notify()

    def _check_open(self) -> None:
        if self._failure is not None:
            raise server_failed(self._failure)
        if self._stopping:
            raise draining()

    # --- health -------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the model thread runs."""
        return self._thread.is_alive()

    @property
    def failure(self) -> str | None:
        """Why no model can run any more, whatever comes; None while the thread does its work."""
        return self._failure

    @property
    def heartbeat(self) -> float:
        """Unix time at which the model thread last took or finished something (or idled)."""
        return self._heartbeat

    def busy_for(self) -> float:
        """Seconds that the running batch has taken so far; 0 when idle."""
        since = self._busy_since
        return time.monotonic() - since if since is not None else 0.0

    def close(self, timeout: float = 3.0) -> None:
        """Refuse what waits and end the thread behind the running batch."""
        with self._condition:
            self._stopping = True
            items = self._queue.clear()
            idle_calls = [*self._idle_calls]
            self._idle_calls.clear()
            self._condition.notify_all()
        for item in items:
            item.resolve(draining())
        for call in idle_calls:
            call.refuse(draining())
        self._thread.join(timeout)

    # --- the model thread ---------------------------------------------------------------------

    def _run_forever(self) -> None:
        use_cores(self._model_threads)
        failure: str | None = "the model's thread has died"  # unless it ends in another way
        try:
            while (work := self._next()) is not None:
                self._busy_since = time.monotonic()
                try:
                    work()
                except DeviceLost:
                    raise
                except Exception:  # a defect of ours: it must not end the thread that all depend on
                    logger.exception("the model thread met an unexpected error")
                self._busy_since = None
                self._heartbeat = time.time()
            failure = None
        except DeviceLost as lost:
            failure = str(lost)
            logger.critical("Nothing can run any more: %s", failure, exc_info=lost)
        finally:
            self._busy_since = None
            if failure is not None:
                self._fail(failure)

    def _fail(self, failure: str, running: Sequence[WorkItem] = ()) -> None:
        """Refuse what runs, what waits and whatever comes; nobody hears of it before it is so."""
        with self._condition:
            self._failure = failure
            items = [*running, *self._queue.clear()]
            calls = [*self._calls, *self._idle_calls]
            self._calls.clear()
            self._idle_calls.clear()
        for item in items:
            item.resolve(server_failed(failure))
        for call in calls:
            call.refuse(server_failed(failure))

    def _next(self) -> Callable[[], None] | None:
        """Block until there is a batch or a call; None when stopping."""
        with self._condition:
            while True:
                self._heartbeat = time.time()
                work = self._take(between=False)
                if work is not None or self._stopping:
                    return work
                due_at = self._queue.due_at
                wait_s = 1.0 if due_at is None else due_at - time.monotonic()
                self._condition.wait(timeout=min(max(wait_s, 0.0), 1.0))

    def _take(self, *, between: bool) -> Callable[[], None] | None:
        """The next call or batch, out of its queue; ``between`` as in :meth:`Queue.take`."""
        if self._calls:
            call = self._calls.popleft()
            return lambda: self._run_call(call)
        batch = None if self._stopping else self._queue.take(between=between)
        if batch is not None:
            return lambda: self._run_batch(batch)
        if self._idle_calls and not between and not self._stopping:
            idle_call = self._idle_calls.popleft()
            return lambda: self._run_call(idle_call)
        return None

    def _run_call(self, call: Call[Any]) -> None:
        with self._turns.of(None):
            call.run(lambda lost: self._fail(str(lost)))

    def _run_batch(self, batch: Batch) -> None:
        with self._turns.of(batch.model) as turn:
            try:
                predicted = self._runner.run(batch, self._pause)
            except DeviceLost as lost:
                self._fail(str(lost), batch.items)
                raise
        if predicted:
            # A moving average over about the last ten batches, for Retry-After.
            change = turn.seconds / predicted - self._seconds_per_image
            self._seconds_per_image += change * (0.1 if self._seconds_per_image else 1.0)

    def _pause(self, running: list[WorkItem]) -> None:
        """Between two parts of a long inference: end it if nobody waits, else let others run.

        Raises:
            Abandoned: all of the images' requests have ended, or the server stops.
            DeviceLost: what ran in between lost it.
        """
        if self._stopping:
            for item in running:
                item.resolve(draining())
        if self._stopping or all(item.future.done() for item in running):
            raise Abandoned
        with self._condition:
            work = self._take(between=True)
        if work is not None:
            self._busy_since = time.monotonic()
            work()
        self._busy_since, self._heartbeat = time.monotonic(), time.time()

    def _tell_cap(self, version: ModelVersion, cap: Cap | None) -> None:
        images, pixels = (cap.images, cap.pixels) if cap is not None else (0, 0)
        self._observer.memory_cap(version.model, version.label, images, pixels)
