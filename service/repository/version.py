"""One loaded set of weights, and the leases that keep it alive while requests use it."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from enum import StrEnum

from service.inference.detector import Detector
from service.repository.statistics import VersionStatistics

_serials = itertools.count(1)


class VersionState(StrEnum):
    """Where a version stands, from its files on disk to its memory being free again."""

    INCOMPLETE = "incomplete"
    AVAILABLE = "available"
    LOADING = "loading"
    CHECKING = "checking"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class ModelVersion:
    """A loaded version. Retired once it shall take no more requests, closed when its last lease ends.

    Attributes:
        model: the name of its model.
        label: its own, as clients see it.
        serial: grows with every version that this process loads or takes out of host memory, of whatever
            model.
        detector: what answers.
        loaded_at: Unix time.
        statistics: what it has served.
        files: identifies the files that it was loaded from; None where they were named alone.
        found: instances in the pictures of its self-check; None without one.
    """

    def __init__(
        self, model: str, label: str, detector: Detector, *, files: str | None = None
    ) -> None:
        self.model = model
        self.label = label
        self.serial = next(_serials)
        self.detector = detector
        self.loaded_at = time.time()
        self.statistics = VersionStatistics()
        self.files = files
        self.found: int | None = None
        self._leases = 0
        self._retired = False
        self._condition = threading.Condition()

    @property
    def leases(self) -> int:
        """Requests that are bound to this version."""
        return self._leases

    @property
    def retired(self) -> bool:
        """Whether it takes no new requests any more."""
        return self._retired

    def acquire(self) -> bool:
        """Take a lease; False, and no lease, once the version is retired."""
        with self._condition:
            if self._retired:
                return False
            self._leases += 1
            return True

    def release(self) -> None:
        """Give a lease back."""
        with self._condition:
            self._leases -= 1
            if self._leases == 0:
                self._condition.notify_all()

    def retire(self) -> None:
        """Give out no leases any more; those that are out stay."""
        with self._condition:
            self._retired = True

    def revive(self) -> None:
        """Take requests again, as a version that was parked. Its series have ended, so it gets new ones."""
        with self._condition:
            self.serial = next(_serials)
            self._retired = False

    def wait_unused(self, timeout: float | None) -> bool:
        """Wait until no lease is left; False when ``timeout`` seconds were not enough."""
        with self._condition:
            return self._condition.wait_for(lambda: self._leases == 0, timeout)


@dataclass
class RequestLease:
    """Binds all images of one request to one version: the one that is current when the first runs.

    So queued work goes to a new version at once, running work finishes on the old one, and an
    answer is never a mixture. Bound on the model thread, or beforehand to a version that the
    request names; ended on the event loop.
    """

    version: ModelVersion | None = None
    _ended: bool = False

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def bind(self, current: ModelVersion) -> bool:
        """Whether the request has a version now: ``current`` if it had none; False if that is retired."""
        with self._lock:
            if self.version is None:
                if not current.acquire():
                    return False
                self.version = current
                if self._ended:  # the client left between queue and model
                    current.release()
            return True

    def end(self) -> None:
        """The request is answered or dropped."""
        with self._lock:
            if not self._ended:
                self._ended = True
                if self.version is not None:
                    self.version.statistics.request_ended()
                    self.version.release()
