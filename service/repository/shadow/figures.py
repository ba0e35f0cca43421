"""What a shadow has seen so far, in memory that does not grow with the traffic."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.repository.shadow.comparison import ImageDifference
from service.shadow_metrics import ShadowSeries

SHIFT_STEPS = 1000
"""Score shifts are counted in steps of a thousandth, so percentiles are exact to half of one."""
KEPT_IMAGES = 10
MOST_CHANGES = 1000
SHOWN_CHANGES = 100
"""Pairs of classes that are counted one by one, and those of them that a report shows."""


@dataclass(frozen=True)
class ImageNote:
    """An image on which the versions differed; ``name`` and ``request_id`` find it in the client's log."""

    request_id: str
    name: str
    difference: ImageDifference

    @property
    def order(self) -> tuple[int, float]:
        """Greater is more different: instances that are not the same, then the largest score shift."""
        return self.difference.disagreements, self.difference.largest_shift

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        found = self.difference
        return {
            "request_id": self.request_id,
            "image": self.name,
            "matched": len(found.ious),
            "class_changed": len(found.class_changes),
            "only_current": len(found.only_current),
            "only_candidate": len(found.only_candidate),
            "largest_score_shift": round(found.largest_shift, 6),
        }


class ShadowFigures:
    """Adds up images; any thread may tell it of one, and any may read it.

    Args:
        series: the metrics of the shadow, which count the same.
    """

    def __init__(self, series: ShadowSeries) -> None:
        self._series = series
        self._lock = threading.Lock()
        self._offered = 0
        self._images: Counter[str] = Counter()
        self._instances: Counter[str] = Counter()
        self._shift_sum = 0.0
        self._shift_max = 0.0
        self._shift_steps = [0] * (SHIFT_STEPS + 1)
        self._iou_sum = 0.0
        self._changes: Counter[tuple[str, str]] = Counter()
        self._other_changes = 0
        self._only_current: Counter[str] = Counter()
        self._only_candidate: Counter[str] = Counter()
        self._current_s = 0.0
        self._candidate_s = 0.0
        self._most_different: list[ImageNote] = []
        self._last_error: str | None = None

    def offer(self) -> None:
        """The current version has answered an image that may be taken."""
        with self._lock:
            self._offered += 1

    def drop(self) -> None:
        """An image was taken, and there was no room for it or no time."""
        self._count("dropped")

    def fail(self, reason: str) -> bool:
        """The candidate failed on an image; whether it was the first of them."""
        with self._lock:
            self._last_error = reason
        return self._count("error") == 1

    def _count(self, outcome: str) -> int:
        self._series.images[outcome].inc()
        with self._lock:
            self._images[outcome] += 1
            return self._images[outcome]

    def add(
        self,
        difference: ImageDifference,
        *,
        name: str,
        request_id: str,
        current_s: float,
        candidate_s: float,
    ) -> None:
        """Both versions have answered an image.

        Args:
            difference: how far the answers lie apart.
            name: of the image, as the client sent it.
            request_id: of the request that it came with.
            current_s, candidate_s: seconds of the two inferences.
        """
        counts = {
            "matched": len(difference.ious),
            "class_changed": len(difference.class_changes),
            "only_current": len(difference.only_current),
            "only_candidate": len(difference.only_candidate),
        }
        self._observe(difference, counts)
        with self._lock:
            self._images["compared"] += 1
            self._instances.update(counts)
            for shift in map(abs, difference.score_shifts):
                self._shift_steps[min(round(shift * SHIFT_STEPS), SHIFT_STEPS)] += 1
                self._shift_max = max(self._shift_max, shift)
            self._shift_sum += sum(difference.score_shifts)
            self._iou_sum += sum(difference.ious)
            for change in difference.class_changes:
                if change in self._changes or len(self._changes) < MOST_CHANGES:
                    self._changes[change] += 1
                else:
                    self._other_changes += 1
            self._only_current.update(difference.only_current)
            self._only_candidate.update(difference.only_candidate)
            self._current_s += current_s
            self._candidate_s += candidate_s
            note = ImageNote(request_id, name, difference)
            if note.order > (0, 0.0):
                kept = sorted([*self._most_different, note], key=lambda n: n.order, reverse=True)
                self._most_different = kept[:KEPT_IMAGES]

    def _observe(self, difference: ImageDifference, counts: Mapping[str, int]) -> None:
        series = self._series
        series.images["compared"].inc()
        for kind, number in counts.items():
            series.instances[kind].inc(number)
        for shift in difference.score_shifts:
            series.score_shift.observe(abs(shift))
        for iou in difference.ious:
            series.iou.observe(iou)

    def to_dict(self) -> dict[str, Any]:
        """As JSON; means and percentiles of nothing are null."""
        with self._lock:
            compared, matched = self._images["compared"], self._instances["matched"]
            of_current = (
                matched + self._instances["class_changed"] + self._instances["only_current"]
            )
            other = self._other_changes + sum(
                count for _, count in self._changes.most_common()[SHOWN_CHANGES:]
            )
            return {
                "images": {
                    "offered": self._offered,
                    "compared": compared,
                    "dropped": self._images["dropped"],
                    "failed": self._images["error"],
                },
                "instances": {
                    "matched": matched,
                    "class_changed": self._instances["class_changed"],
                    "only_current": self._instances["only_current"],
                    "only_candidate": self._instances["only_candidate"],
                    "matched_share": _mean(matched, of_current),
                },
                "score_shift": {
                    "mean": _mean(self._shift_sum, matched),
                    "p50": self._percentile(0.5, matched),
                    "p95": self._percentile(0.95, matched),
                    "max": round(self._shift_max, 6) if matched else None,
                },
                "mean_iou": _mean(self._iou_sum, matched),
                "class_changes": [
                    {"from": before, "to": after, "count": count}
                    for (before, after), count in self._changes.most_common(SHOWN_CHANGES)
                ],
                "other_class_changes": other,
                "only_current": _table(self._only_current),
                "only_candidate": _table(self._only_candidate),
                "inference_s": {
                    "current": _mean(self._current_s, compared),
                    "candidate": _mean(self._candidate_s, compared),
                },
                "most_different": [note.to_dict() for note in self._most_different],
                "last_error": self._last_error,
            }

    def _percentile(self, share: float, total: int) -> float | None:
        """The absolute score shift that ``share`` of all matched pairs do not exceed."""
        seen = 0
        for step, count in enumerate(self._shift_steps):
            seen += count
            if count and seen >= share * total:
                return step / SHIFT_STEPS
        return None


def _mean(total: float, number: int) -> float | None:
    return round(total / number, 6) if number else None


def _table(counts: Counter[str]) -> list[dict[str, Any]]:
    return [{"class_name": name, "count": count} for name, count in counts.most_common()]
