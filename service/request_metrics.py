"""What a request's record means for the metrics and the log."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from service.logging import log_request
from service.metrics import Metrics
from service.middleware import RequestRecord

PROBES = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""Left out of the log and of the HTTP metrics: they come every few seconds and say nothing."""

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class _Series:
    """The series of one method, route and status."""

    in_progress: Gauge
    requests: Counter
    seconds: Histogram
    request_bytes: Histogram
    response_bytes: Histogram


class RequestMetrics:
    """Counts every request from its start to its end; for :class:`RequestContextMiddleware`.

    Series are looked up once: to find one by its labels costs more than to count on it. There are few,
    since none of the labels is the client's to invent.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._in_progress: dict[str, Gauge] = {}
        self._series: dict[tuple[str, str, int], _Series] = {}

    def started(self, route: str) -> None:
        """A request has found its route."""
        if route not in PROBES:
            self._gauge(route).inc()

    def ended(self, record: RequestRecord) -> None:
        """A request has ended, and is logged."""
        if record.route in PROBES:
            return
        method = record.method if record.method in _METHODS else "other"
        key = (method, record.route, record.status)
        series = self._series.get(key) or self._make(*key)
        series.in_progress.dec()
        series.requests.inc()
        series.seconds.observe(record.duration_s)
        series.request_bytes.observe(record.request_bytes)
        series.response_bytes.observe(record.response_bytes)
        log_request(record)

    def _gauge(self, route: str) -> Gauge:
        gauge = self._in_progress.get(route)
        if gauge is None:
            gauge = self._in_progress[route] = self._metrics.http_in_progress.labels(route)
        return gauge

    def _make(self, method: str, route: str, status: int) -> _Series:
        metrics = self._metrics
        series = _Series(
            in_progress=self._gauge(route),
            requests=metrics.http_requests.labels(method, route, str(status)),
            seconds=metrics.http_seconds.labels(method, route),
            request_bytes=metrics.http_request_bytes.labels(route),
            response_bytes=metrics.http_response_bytes.labels(route),
        )
        self._series[method, route, status] = series
        return series
