"""How a version goes: it takes no new requests, its last ones end, its memory is given back."""

from __future__ import annotations

import logging
import threading

from service.repository.house import House
from service.repository.jobs import ReloadJob
from service.repository.parking import park
from service.repository.served import ServedModel
from service.repository.version import ModelVersion, VersionState

logger = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 120.0


class Retiring:
    """Lets versions of one model go.

    Args:
        model: the model.
        job: is told of freed memory and of what took too long.
        house: whose device they are on.
    """

    def __init__(self, model: ServedModel, job: ReloadJob, house: House) -> None:
        self._model = model
        self._job = job
        self._house = house

    def retire(self, version: ModelVersion) -> None:
        """Let go of a version that is no longer current, unless an alias still points to it."""
        if self._model.is_needed(version.label):
            self.barrier()
            return
        if self.drain(version, DRAIN_TIMEOUT_S):
            self._job.freed_bytes = self.dispose(version, keep=self._house.keep_previous)
            return
        self._job.warning = (
            f"Version {version.label} still had requests after {DRAIN_TIMEOUT_S:.0f} s; its memory "
            "is freed when they end."
        )
        logger.warning(self._job.warning)
        threading.Thread(
            target=self._dispose_later, args=(version,), name="drain", daemon=True
        ).start()

    def unload(self, version: ModelVersion) -> int:
        """Drain and close a version that is not current; how many bytes it held."""
        self.drain(version, None)
        return self.dispose(version, keep=False)

    def barrier(self) -> None:
        """Whatever was taken from the queue before the swap is bound by the time this returns; what
        is bound later is bound to the new version."""
        self._house.call(lambda: None)

    def drain(self, version: ModelVersion, timeout: float | None) -> bool:
        """Wait for the end of all requests of ``version``; False when ``timeout`` seconds were too few."""
        self.barrier()
        model = self._model
        model.versions.pop(version.label, None)
        model.mark(version.label, VersionState.DRAINING)
        self._house.observer.version_draining(version)
        version.retire()
        shadow = model.shadow  # of which none can begin any more: it would need a lease
        if shadow is not None and shadow.candidate is version:
            shadow.close()
        return version.wait_unused(timeout)

    def _dispose_later(self, version: ModelVersion) -> None:
        version.wait_unused(None)
        self.dispose(version, keep=False)

    def dispose(self, version: ModelVersion, *, keep: bool) -> int:
        """Close a version that nobody uses, or park it in the place of the one that was parked; how
        many bytes of the device that gave back."""
        model, house = self._model, self._house
        if keep and (parked := self._park(version)) is not None:
            freed = parked
            gone, model.parked = model.parked, version
        else:
            freed, gone = 0, version
        if gone is not None:
            self._mark_gone(gone.label)
            freed += house.call(gone.detector.close)
        if gone is not version:
            self._mark_gone(version.label, "kept in host memory")
        house.tidied()
        house.observer.version_closed(version)
        return freed

    def _mark_gone(self, label: str, reason: str | None = None) -> None:
        """A version is off the device, unless it has been loaded again since it began to drain."""
        status = self._model.statuses.get(label)
        if status is None or status.state in (VersionState.DRAINING, VersionState.AVAILABLE):
            self._model.mark(label, VersionState.AVAILABLE, reason)

    def _park(self, version: ModelVersion) -> int | None:
        """How many bytes of the device that gave back; None when there is no memory for it."""
        try:
            return park(version.detector, call=self._house.call)
        except Exception as error:  # without it in memory a rollback reads the files
            self._job.warning = (
                f"Version {version.label} could not be kept in host memory; a rollback will read its "
                "files."
            )
            logger.warning("%s %s", self._job.warning, type(error).__name__)
            return None
