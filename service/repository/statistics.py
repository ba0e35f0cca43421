"""What a version has served, and how long its batches took, by their size."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

WINDOW = 512
"""Latest batches of each size that the percentiles are of."""


class VersionStatistics:
    """Counts of one version; of any thread.

    Args:
        window: latest batches of each size that the percentiles are of.
    """

    def __init__(self, *, window: int = WINDOW) -> None:
        self._lock = threading.Lock()
        self._window = window
        self._requests = 0
        self._images = 0
        self._failed_images = 0
        self._batches: dict[int, _BatchTimes] = {}

    def request_ended(self) -> None:
        """Count a request that was bound to this version, whether it was answered or its client left."""
        with self._lock:
            self._requests += 1

    def batch_served(self, images: int, seconds: float) -> None:
        """Count a batch of ``images`` pictures that took ``seconds`` on the model's thread."""
        with self._lock:
            self._images += images
            times = self._batches.get(images)
            if times is None:
                times = self._batches[images] = _BatchTimes(self._window)
            times.add(seconds)

    def image_failed(self) -> None:
        """Count a picture that the model failed on, or refused."""
        with self._lock:
            self._failed_images += 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON: ``requests``, ``images``, ``failed_images`` and ``batches``, for each size ``size``,
        ``count``, and in seconds ``mean_s``, ``p50_s`` and ``p95_s``; the percentiles are of the latest
        batches of that size, the mean is of all."""
        with self._lock:
            kept = [
                (size, times.count, times.total_s, list(times.latest))
                for size, times in sorted(self._batches.items())
            ]
            counts = (self._requests, self._images, self._failed_images)
        return {
            "requests": counts[0],
            "images": counts[1],
            "failed_images": counts[2],
            "batches": [
                {
                    "size": size,
                    "count": count,
                    "mean_s": total_s / count,
                    "p50_s": _percentile(latest, 50),
                    "p95_s": _percentile(latest, 95),
                }
                for size, count, total_s, latest in kept
            ],
        }


class _BatchTimes:
    """Of the batches of one size."""

    def __init__(self, window: int) -> None:
        self.count = 0
        self.total_s = 0.0
        self.latest: deque[float] = deque(maxlen=window)

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total_s += seconds
        self.latest.append(seconds)


def _percentile(values: list[float], percent: int) -> float:
    """The smallest value that at least ``percent`` of 100 are not above."""
    rank = -(-len(values) * percent // 100)
    return sorted(values)[max(rank, 1) - 1]
