"""RequestMetrics: what a request leaves behind in the metrics."""

from typing import Any

import pytest

from service.metrics import Metrics
from service.middleware import RequestRecord
from service.request_metrics import RequestMetrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def record(**changes: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "method": "POST",
        "path": "/predict",
        "route": "/predict",
        "status": 200,
        "duration_s": 0.5,
        "request_bytes": 300,
        "response_bytes": 40,
        "client": None,
        "request_id": "abc",
    }
    return RequestRecord(**values | changes)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"detserve_{name}", labels)


def test_a_request_counts_from_its_start_to_its_end(metrics: Metrics) -> None:
    requests = RequestMetrics(metrics)
    requests.started("/predict")
    assert value(metrics, "http_requests_in_progress", route="/predict") == 1
    requests.ended(record())
    assert value(metrics, "http_requests_in_progress", route="/predict") == 0
    labels = {"method": "POST", "route": "/predict"}
    assert value(metrics, "http_requests_total", **labels, code="200") == 1
    assert value(metrics, "http_request_duration_seconds_sum", **labels) == 0.5
    assert value(metrics, "http_request_size_bytes_sum", route="/predict") == 300
    assert value(metrics, "http_response_size_bytes_sum", route="/predict") == 40


def test_every_status_method_and_route_has_its_own_series(metrics: Metrics) -> None:
    requests = RequestMetrics(metrics)
    for changes in ({}, {}, {"status": 422}, {"method": "GET"}, {"route": "/models"}):
        ended = record(**changes)
        requests.started(ended.route)
        requests.ended(ended)
    counted = {
        (sample.labels["method"], sample.labels["route"], sample.labels["code"]): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "detserve_http_requests_total"
    }
    assert counted == {
        ("POST", "/predict", "200"): 2,
        ("POST", "/predict", "422"): 1,
        ("GET", "/predict", "200"): 1,
        ("POST", "/models", "200"): 1,
    }


def test_a_method_that_a_client_made_up_is_no_label(metrics: Metrics) -> None:
    requests = RequestMetrics(metrics)
    requests.started("unmatched")
    requests.ended(record(method="BREW", route="unmatched", status=405))
    labels = {"method": "other", "route": "unmatched", "code": "405"}
    assert value(metrics, "http_requests_total", **labels) == 1


@pytest.mark.parametrize("route", ["/livez", "/readyz", "/metrics"])
def test_probes_leave_nothing(metrics: Metrics, route: str) -> None:
    requests = RequestMetrics(metrics)
    requests.started(route)
    requests.ended(record(route=route, method="GET"))
    assert value(metrics, "http_requests_in_progress", route=route) is None
    assert value(metrics, "http_requests_total", method="GET", route=route, code="200") is None
