"""What passes between the event loop, the model thread and those who watch it."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Protocol

from service.inference.detector import Prediction, PreparedImage
from service.repository.version import ModelVersion, RequestLease

logger = logging.getLogger(__name__)


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


class SchedulerObserver(Protocol):
    """What wants to know of batches: the metrics."""

    def batch_done(self, batch: BatchRecord) -> None:
        """A batch has run."""

    def out_of_memory(self, model: str, action: str) -> None:
        """The device ran out of memory; ``action`` is "split" or "rejected"."""


@dataclass(frozen=True)
class BatchRecord:
    """One batch that ran, for the metrics."""

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

    def key(self, current: ModelVersion) -> tuple[str, ModelVersion, tuple[int, int], int]:
        """Images of equal keys may share a batch; ``current`` is what unbound ones run on.

        The views of test-time augmentation share no batch with other images.
        """
        image = self.image
        version = self.lease.version or current
        return (self.model.name, version, image.padded_size, id(image) if image.views else 0)

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
