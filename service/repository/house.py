"""What every change of a model works with: the device, the loader, and who watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from service.inference.scheduler import Scheduler
from service.repository.free_memory import FreeMemory
from service.repository.source import Loader
from service.repository.version import ModelVersion

T = TypeVar("T")


class VersionObserver(Protocol):
    """What wants to know of versions: the metrics."""

    def version_ready(self, version: ModelVersion) -> None:
        """``version`` can answer."""

    def version_current(self, version: ModelVersion) -> None:
        """``version`` answers requests that name none, from now on."""

    def version_draining(self, version: ModelVersion) -> None:
        """``version`` takes no new requests."""

    def version_closed(self, version: ModelVersion) -> None:
        """``version`` is gone."""

    def reload_done(self, model: str, outcome: str, phases: dict[str, float]) -> None:
        """A reload ended."""


@dataclass(frozen=True)
class House:
    """What every swap works with.

    Attributes:
        scheduler: runs what needs the device, between the batches of traffic.
        load: makes a detector out of files.
        observer: is told of versions.
        device: where models run, such as "cpu" or "cuda:0".
        max_batch_pixels: padded pixels of a batch of several, at most; None without a bound.
        keep_previous: whether the previous version stays in host memory.
        free_memory: reads what is free now.
        tidied: gives memory back to the system that the process no longer uses.
    """

    scheduler: Scheduler
    load: Loader
    observer: VersionObserver
    device: str = "cpu"
    max_batch_pixels: int | None = None
    keep_previous: bool = False
    free_memory: Callable[[str], FreeMemory] = FreeMemory.read
    tidied: Callable[[], object] = lambda: None

    def call(self, function: Callable[[], T], /) -> T:
        """Run ``function`` on the model's thread and wait for it."""
        return self.scheduler.call(function).result()
