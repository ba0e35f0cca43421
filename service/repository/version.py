"""One loaded set of weights, and the leases that keep it alive while requests use it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from service.inference.detector import Detector


class ModelVersion:
    """A detector with a number. Retired once a newer one is current, closed when its last lease ends."""

    def __init__(self, model: str, number: int, detector: Detector) -> None:
        self.model = model
        self.number = number
        self.detector = detector
        self.loaded_at = time.time()
        self._leases = 0
        self._condition = threading.Condition()

    @property
    def label(self) -> str:
        """The version as clients see it."""
        return str(self.number)

    @property
    def leases(self) -> int:
        """Requests that are bound to this version."""
        return self._leases

    def acquire(self) -> None:
        """Take a lease."""
        with self._condition:
            self._leases += 1

    def release(self) -> None:
        """Give a lease back."""
        with self._condition:
            self._leases -= 1
            if self._leases == 0:
                self._condition.notify_all()

    def wait_unused(self, timeout: float | None) -> bool:
        """Wait until no lease is left; False when ``timeout`` seconds were not enough."""
        with self._condition:
            return self._condition.wait_for(lambda: self._leases == 0, timeout)


@dataclass
class RequestLease:
    """Binds all images of one request to one version: the one that is current when the first runs.

    So queued work goes to a new version at once, running work finishes on the old one, and an
    answer is never a mixture. Bound on the model thread, ended on the event loop.
    """

    version: ModelVersion | None = None
    _ended: bool = False

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def bind(self, current: ModelVersion) -> ModelVersion:
        """The version of this request; ``current`` if it has none yet."""
        with self._lock:
            if self.version is None:
                current.acquire()
                self.version = current
                if self._ended:  # the client left between queue and model
                    current.release()
            return self.version

    def end(self) -> None:
        """The request is answered or dropped."""
        with self._lock:
            if not self._ended:
                self._ended = True
                if self.version is not None:
                    self.version.release()
