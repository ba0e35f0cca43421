"""The series that every image counts on, looked up once for each version that answers."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from service.metrics import OUTCOMES, Metrics
from service.repository.version import ModelVersion

_MOST_VERSIONS = 16


@dataclass(frozen=True)
class ImageSeries:
    """The series of one version of one model."""

    decode: Histogram
    encode: Histogram
    detections: Histogram
    scores: Histogram
    outcomes: dict[str, Counter]

    def found(self, scores: list[float]) -> None:
        """An image was answered with instances of these scores."""
        self.detections.observe(len(scores))
        for score in scores:
            self.scores.observe(score)


class ImageMetrics:
    """Finds the series of a version: by its labels, as Prometheus' library does it, costs more than
    to count on them.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        # By their serials: a version that comes back under its label has new series.
        self._series: dict[int, ImageSeries] = {}

    def of(self, version: ModelVersion) -> ImageSeries:
        """The series of ``version``."""
        series = self._series.get(version.serial)
        if series is None:
            if len(self._series) >= _MOST_VERSIONS:
                self._series.clear()  # those of versions that are long gone
            series = self._look_up(version.model, version.label)
            self._series[version.serial] = series
        return series

    def _look_up(self, model: str, label: str) -> ImageSeries:
        metrics = self._metrics
        return ImageSeries(
            decode=metrics.stage_seconds.labels(model, "decode"),
            encode=metrics.stage_seconds.labels(model, "encode"),
            detections=metrics.detections.labels(model, label),
            scores=metrics.scores.labels(model, label),
            outcomes={name: metrics.predictions.labels(model, label, name) for name in OUTCOMES},
        )
