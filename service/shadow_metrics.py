"""Metrics of shadows: what a candidate answers otherwise than the current version."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

IMAGE_OUTCOMES = ("compared", "dropped", "error")
INSTANCE_KINDS = ("matched", "class_changed", "only_current", "only_candidate")
SHIFTS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1)
IOUS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1)


@dataclass(frozen=True)
class ShadowSeries:
    """The series of one shadow; counting on them is harmless after :meth:`ShadowMetrics.forget`.

    Attributes:
        images: by outcome.
        instances: by kind.
        score_shift: absolute differences in score of matched instances.
        iou: overlaps of matched instances.
    """

    images: dict[str, Counter]
    instances: dict[str, Counter]
    score_shift: Histogram
    iou: Histogram


class ShadowMetrics:
    """Makes the series of a shadow when it begins and takes them away when it ends."""

    def __init__(self, registry: CollectorRegistry) -> None:
        names = ("model", "candidate")
        self._images = Counter(
            "detserve_shadow_images_total",
            "Images that a shadow took, by what became of them.",
            (*names, "outcome"),
            registry=registry,
        )
        self._instances = Counter(
            "detserve_shadow_instances_total",
            "Instances of the current version and of the candidate, by how they agree.",
            (*names, "kind"),
            registry=registry,
        )
        self._score_shift = Histogram(
            "detserve_shadow_score_shift",
            "Difference in score between the versions, of instances that both found.",
            names,
            registry=registry,
            buckets=SHIFTS,
        )
        self._iou = Histogram(
            "detserve_shadow_iou",
            "Overlap of the two versions' boxes, of instances that both found.",
            names,
            registry=registry,
            buckets=IOUS,
        )

    def begin(self, model: str, candidate: str) -> ShadowSeries:
        """The series of a shadow, all there at zero."""
        key = (model, candidate)
        return ShadowSeries(
            images={name: self._images.labels(*key, name) for name in IMAGE_OUTCOMES},
            instances={name: self._instances.labels(*key, name) for name in INSTANCE_KINDS},
            score_shift=self._score_shift.labels(*key),
            iou=self._iou.labels(*key),
        )

    def forget(self, model: str, candidate: str) -> None:
        """The shadow has ended: a scrape shows no series of it any more."""
        key = (model, candidate)
        for outcome in IMAGE_OUTCOMES:
            self._images.remove(*key, outcome)
        for kind in INSTANCE_KINDS:
            self._instances.remove(*key, kind)
        self._score_shift.remove(*key)
        self._iou.remove(*key)
