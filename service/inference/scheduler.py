"""The queue in front of the models, and the one long-lived thread that runs them.

Batches hold images of one model and one padded size, so an answer never depends on who shares its
batch. Arrival order is kept: the oldest image decides what runs next, and those like it go along.
An idle model never waits (unless ``max_wait`` says so), batches form while it is busy.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import torch

from service.errors import (
    ApiError,
    InternalError,
    OutOfDeviceMemory,
    QueueFull,
    TooLarge,
    Unavailable,
)
from service.inference.detector import Prediction, PreparedImage
from service.inference.work import (
    Abandoned,
    BatchRecord,
    CurrentVersion,
    Inference,
    SchedulerObserver,
    StalePreparation,
    WorkItem,
)
from service.repository.version import ModelVersion, RequestLease

logger = logging.getLogger(__name__)
T = TypeVar("T")

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


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
        self._max_batch_size = max_batch_size
        self._max_batch_pixels = max_batch_pixels
        self._max_wait_s = max_wait_s
        self._max_queue = max_queue
        self._observer = observer
        self._model_threads = model_threads
        self._condition = threading.Condition()
        self._items: collections.deque[WorkItem] = collections.deque()
        self._calls: collections.deque[Callable[[], None]] = collections.deque()
        self._reserved = 0
        self._seconds_per_image = 0.0
        self._stopping = False
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
        return len(self._items)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the prepared images in the queue."""
        with self._condition:
            return sum(item.image.nbytes for item in self._items)

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
        if self._reserved + images > self._max_queue:
            retry_after = max(1, math.ceil(self._reserved * self._seconds_per_image))
            raise QueueFull(
                "queue_full",
                f"The server is busy with {self._reserved} images and takes {self._max_queue} at most. "
                f"Try again in {retry_after} s.",
                retry_after=retry_after,
                queued=self._reserved,
                capacity=self._max_queue,
            )
        self._reserved += images

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
            if self._stopping:
                raise Unavailable("draining", "The server is shutting down. Try another replica.")
            self._items.append(item)
            self._condition.notify()
        return await item.future

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run ``function`` on the model thread between two batches."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except BaseException as error:  # it belongs to whoever waits for the future
                future.set_exception(error)

        with self._condition:
            if self._stopping or not self.alive:
                raise Unavailable("draining", "The server is shutting down. Try another replica.")
            self._calls.append(run)
            self._condition.notify()
        return future

    # --- health -------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the model thread runs."""
        return self._thread.is_alive()

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
            items, self._items = self._items, collections.deque()
            self._condition.notify_all()
        for item in items:
            item.resolve(
                Unavailable("draining", "The server is shutting down. Try another replica.")
            )
        self._thread.join(timeout)

    # --- the model thread ---------------------------------------------------------------------

    def _run_forever(self) -> None:
        torch.set_num_threads(self._model_threads)
        while True:
            work = self._next()
            if work is None:
                return
            self._busy_since = time.monotonic()
            try:
                work()
            except Exception:  # a defect of ours: it must not end the thread that all depend on
                logger.exception("the model thread met an unexpected error")
            self._busy_since = None
            self._heartbeat = time.time()

    def _next(self) -> Callable[[], None] | None:
        """Block until there is a batch or a call; None when stopping."""
        with self._condition:
            while True:
                self._heartbeat = time.time()
                if self._calls:
                    return self._calls.popleft()
                if self._stopping:
                    return None
                self._items = collections.deque(i for i in self._items if not i.future.done())
                if not self._items:
                    self._condition.wait(timeout=1.0)
                    continue
                try:
                    version, batch, reason = self._gather(self._items)
                except Exception as error:  # a defect of ours: the thread must go on
                    logger.error("a batch could not be gathered", exc_info=error)
                    self._items.popleft().resolve(_inference_failed())
                    continue
                if reason == "idle" and self._max_wait_s > 0:
                    rest = self._items[0].enqueued_at + self._max_wait_s - time.monotonic()
                    if rest > 0:
                        self._condition.wait(timeout=min(rest, 1.0))
                        continue
                    reason = "timeout"
                return self._take(version, batch, reason)

    def _take(
        self, version: ModelVersion, batch: list[WorkItem], reason: str
    ) -> Callable[[], None]:
        """Take ``batch`` out of the queue; the work of running it."""
        taken = set(map(id, batch))
        self._items = collections.deque(i for i in self._items if id(i) not in taken)
        return lambda: self._run_batch(version, batch, reason)

    def _pause(self, batch: list[WorkItem]) -> None:
        """Between two parts of a long inference: end it if nobody waits, else let others run.

        Raises:
            Abandoned: all of the batch's requests have ended, or the server stops.
        """
        if self._stopping:
            for item in batch:
                item.resolve(
                    Unavailable("draining", "The server is shutting down. Try another replica.")
                )
        if self._stopping or all(item.future.done() for item in batch):
            raise Abandoned
        work = self._next_between()
        if work is not None:
            self._busy_since = time.monotonic()
            work()
        self._busy_since, self._heartbeat = time.monotonic(), time.time()

    def _next_between(self) -> Callable[[], None] | None:
        """The oldest work that is short; None when there is none."""
        with self._condition:
            if self._calls:
                return self._calls.popleft()
            short = [i for i in self._items if not i.future.done() and not i.image.views]
            return self._take(*self._gather(short)) if short else None

    def _gather(self, items: Sequence[WorkItem]) -> tuple[ModelVersion, list[WorkItem], str]:
        """The oldest of ``items`` and those that can go with it; and why it is no more.

        The current version is taken once, since a swap may come at any time.
        """
        oldest = items[0]
        current = oldest.model.current
        key = oldest.key(current)
        # All are of one padded size. A single one may exceed the pixels.
        by_pixels = max(1, self._max_batch_pixels // oldest.image.padded_pixels)
        most = min(self._max_batch_size, by_pixels)
        alike = (item for item in items if item.key(current) == key)
        batch = list(itertools.islice(alike, most))
        if len(batch) < most:
            return key[1], batch, "idle"
        return key[1], batch, "full" if most == self._max_batch_size else "pixels"

    def _run_batch(self, version: ModelVersion, batch: list[WorkItem], reason: str) -> None:
        try:
            self._bind_and_infer(version, batch, reason)
        except Exception as error:  # a defect of ours: nobody may wait for ever because of it
            logger.error("a batch met an unexpected error", exc_info=error)
            for item in batch:  # those that have their answer keep it
                item.resolve(_inference_failed())

    def _bind_and_infer(self, version: ModelVersion, batch: list[WorkItem], reason: str) -> None:
        ready = []
        for item in batch:
            item.lease.bind(version)
            if item.image.recipe == version.detector.recipe:
                ready.append(item)
            else:
                item.resolve(StalePreparation(version))
        if ready:
            self._infer(version, ready, reason)

    def _infer(self, version: ModelVersion, batch: list[WorkItem], reason: str) -> None:
        """Run a batch; one that fails is halved until only what is to blame fails."""
        started = time.monotonic()
        results: list[Prediction] | None = None
        try:
            pause = functools.partial(self._pause, batch)
            results = version.detector.infer([item.image for item in batch], pause)
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} answers for {len(batch)} images")
        except Abandoned:
            return
        except Exception as error:
            if len(batch) == 1:
                self._refuse(version, batch[0], error)
                return
            self._note_split(version, batch, error)
            results = None  # it may be of the wrong length
        if results is None:
            # Behind the handler, since in it the traceback still holds the failed batch's tensors.
            middle = len(batch) // 2
            self._infer(version, batch[:middle], reason)
            self._infer(version, batch[middle:], reason)
            return
        elapsed = time.monotonic() - started
        per_image = elapsed / len(batch)
        # A moving average over about the last ten batches, for Retry-After.
        self._seconds_per_image += (per_image - self._seconds_per_image) * (
            0.1 if self._seconds_per_image else 1.0
        )
        waits = [started - item.enqueued_at for item in batch]
        for item, instances, wait in zip(batch, results, waits, strict=True):
            item.resolve(Inference(instances, version, len(batch), wait, elapsed))
        height, width = batch[0].image.padded_size
        used = sum(item.image.tensor.shape[-2] * item.image.tensor.shape[-1] for item in batch)
        record = BatchRecord(
            model=version.model,
            version=version.label,
            size=len(batch),
            padding_ratio=1 - used / (height * width * len(batch)),
            reason=reason,
            queue_s=waits,
            inference_s=elapsed,
        )
        self._tell(lambda observer: observer.batch_done(record))

    def _note_split(self, version: ModelVersion, batch: list[WorkItem], error: Exception) -> None:
        """A batch of several failed."""
        logger.warning("a batch of %d failed and is halved: %s", len(batch), type(error).__name__)
        if isinstance(error, OUT_OF_MEMORY):
            self._tell(lambda observer: observer.out_of_memory(version.model, "split"))

    def _refuse(self, version: ModelVersion, item: WorkItem, error: Exception) -> None:
        """Answer an image that failed alone."""
        answer: ApiError
        if isinstance(error, OUT_OF_MEMORY):
            self._tell(lambda observer: observer.out_of_memory(version.model, "rejected"))
            height, width = item.image.padded_size
            answer = OutOfDeviceMemory(
                "out_of_device_memory",
                f"This image alone ({height}x{width} after the resize) does not fit the device's "
                "memory. Lower INPUT.MAX_SIZE_TEST or use a larger device.",
            )
        elif isinstance(error, ApiError):
            answer = error
        else:
            logger.error("inference failed on one image", exc_info=error)
            answer = _inference_failed()
        item.resolve(answer)

    def _tell(self, tell: Callable[[SchedulerObserver], None]) -> None:
        """A broken observer must not cost anybody an answer."""
        try:
            tell(self._observer)
        except Exception:  # see above
            logger.exception("the observer of batches failed")


def _inference_failed() -> InternalError:
    return InternalError(
        "inference_failed", "The model failed on this image. The server's log has the reason."
    )
