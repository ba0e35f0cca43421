"""Answered images that wait for the candidate of a shadow, few and of bounded size."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from dataclasses import dataclass

from models.structures import Instances
from models.wanted import Wanted
from service.inference.detector import PreparedImage

MOST_IMAGES = 8
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class TakenImage:
    """An image that the current version has answered.

    Attributes:
        name: as the client sent it.
        request_id: of its request.
        image: prepared as the candidate wants it, or what prepares it so.
        nbytes: what it keeps in memory.
        answer: the current version's, without masks.
        wanted: what the request wanted of it.
        current_s: the current version's share of its batch's time.
    """

    name: str
    request_id: str
    image: PreparedImage | Callable[[], PreparedImage]
    nbytes: int
    answer: Instances
    wanted: Wanted
    current_s: float


class ShadowQueue:
    """Images in order of arrival, of any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: collections.deque[TakenImage] = collections.deque()
        self._nbytes = 0
        self._closed = False

    def put(self, taken: TakenImage) -> bool:
        """Whether there is room for it; there is none once the queue is closed."""
        with self._lock:
            full = len(self._images) >= MOST_IMAGES or self._nbytes + taken.nbytes > MOST_BYTES
            if self._closed or full:
                return False
            self._images.append(taken)
            self._nbytes += taken.nbytes
            return True

    def next(self) -> TakenImage | None:
        """The oldest, out of the queue; None if there is none."""
        with self._lock:
            if not self._images:
                return None
            taken = self._images.popleft()
            self._nbytes -= taken.nbytes
            return taken

    def close(self) -> None:
        """Drop everything, and take no more."""
        with self._lock:
            self._closed = True
            self._images.clear()
            self._nbytes = 0
