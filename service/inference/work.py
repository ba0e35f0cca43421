"""What passes between the event loop, the model thread and those who watch it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from service.errors import InternalError, Unavailable
from service.inference.detector import Prediction, PreparedImage
from service.inference.device_errors import DeviceLost, device_loss
from service.inference.traffic import TrafficShapes
from service.repository.version import ModelVersion, RequestLease

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Abandoned(Exception):  # no error: nobody waits for the work any more
    """Ends a long inference between two of its parts."""


class StalePreparation(Exception):
    """The model was swapped for one that wants its images prepared otherwise: for ``version``."""

    def __init__(self, version: ModelVersion) -> None:
        super().__init__("prepare the image again")
        self.version = version


@dataclass(frozen=True)
class Inference:
    """What the model thread answers for one image."""

    prediction: Prediction
    version: ModelVersion
    batch_size: int
    queue_s: float
    inference_s: float


class CurrentVersion(Protocol):
    """A served model, as the scheduler sees it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def current(self) -> ModelVersion:
        """The version that new work runs on."""

    @property
    def traffic(self) -> TrafficShapes:
        """What pictures it gets."""


class SchedulerObserver(Protocol):
    """What wants to know of batches: the metrics."""

    def batch_done(self, batch: BatchRecord) -> None:
        """A batch has run."""

    def out_of_memory(self, model: str, action: str) -> None:
        """The device ran out of memory; ``action`` is "split" or "rejected"."""

    def memory_cap(self, model: str, version: str, images: int, pixels: int) -> None:
        """Batches hold at most ``images``, or ``pixels`` together, from now on; 0 and 0: no cap."""


class GuardedObserver:
    """A broken observer must not cost anybody an answer."""

    def __init__(self, observer: SchedulerObserver) -> None:
        self._observer = observer

    def batch_done(self, batch: BatchRecord) -> None:
        """See :class:`SchedulerObserver`."""
        self._tell(lambda: self._observer.batch_done(batch))

    def out_of_memory(self, model: str, action: str) -> None:
        """See :class:`SchedulerObserver`."""
        self._tell(lambda: self._observer.out_of_memory(model, action))

    def memory_cap(self, model: str, version: str, images: int, pixels: int) -> None:
        """See :class:`SchedulerObserver`."""
        self._tell(lambda: self._observer.memory_cap(model, version, images, pixels))

    def _tell(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception:  # whatever a foreign observer raises
            logger.exception("the observer of batches failed")


@dataclass(frozen=True)
class BatchRecord:
    """One batch that ran, for the metrics; ``reason`` is :attr:`Batch.reason`."""

    model: str
    version: str
    size: int
    padding_ratio: float
    reason: str
    queue_s: list[float]
    inference_s: float


@dataclass(eq=False)
class WorkItem:
    """One image on its way through the queue."""

    model: CurrentVersion
    image: PreparedImage
    lease: RequestLease
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Inference]
    enqueued_at: float = field(default_factory=time.monotonic)

    def key(self, current: ModelVersion) -> tuple[int, ModelVersion, tuple[int, int], int]:
        """Images of equal keys may share a batch; ``current`` is what unbound ones run on.

        The views of test-time augmentation share no batch with other images. A model is told by its
        identity: another one may have taken over its name.
        """
        image = self.image
        version = self.lease.version or current
        return (id(self.model), version, image.padded_size, id(image) if image.views else 0)

    def resolve(self, result: Inference | BaseException) -> None:
        """Hand the result to the event loop; nobody may be waiting any more."""

        def deliver() -> None:
            if self.future.done():
                return
            if isinstance(result, BaseException):
                self.future.set_exception(result)
            else:
                self.future.set_result(result)

        try:
            self.loop.call_soon_threadsafe(deliver)
        except RuntimeError:
            logger.debug("an answer came after its event loop had closed")


@dataclass(frozen=True)
class Batch:
    """Images of one model, version and padded size that run together.

    Attributes:
        model: the name.
        version: what all of them run on.
        items: in the order of their arrival.
        reason: why there are no more of them: ``full`` (the count), ``pixels``, ``memory`` (less than
            the settings allow, since the device ran out of it), ``views`` (test-time augmentation
            shares no batch), ``timeout`` (the window of ``max_wait`` is over) or ``idle`` (no more
            were waiting). What is left of a batch that failed goes as ``split``.
    """

    model: str
    version: ModelVersion
    items: list[WorkItem]
    reason: str


class Call(Generic[T]):
    """A function to run on the model thread, and the future of what it returns."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self.future: Future[T] = Future()

    def run(self, losing: Callable[[DeviceLost], None]) -> None:
        """Run it; what it raises belongs to whoever waits.

        Args:
            losing: is told of the device's loss before whoever waits is.

        Raises:
            DeviceLost: all the same.
        """
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self._function()
        except BaseException as error:  # see above
            lost = device_loss(error)
            if lost is not None:
                losing(lost)
            self.future.set_exception(error)
            if lost is not None:
                raise lost from error
        else:
            self.future.set_result(result)

    def refuse(self, error: Exception) -> None:
        """It will not run."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


def inference_failed() -> InternalError:
    """The answer to an image on which the model, or we, failed."""
    return InternalError(
        "inference_failed", "The model failed on this image. The server's log has the reason."
    )


def draining() -> Unavailable:
    """The answer to all that comes while the server stops."""
    return Unavailable("draining", "The server is shutting down. Try another replica.")


def server_failed(reason: str) -> Unavailable:
    """The answer to everything once no model can run any more; ``reason`` says why."""
    return Unavailable(
        "server_failed",
        f"This server can run no model any more: {reason}. It has to restart; send the request again.",
    )
