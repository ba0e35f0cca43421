"""The series of a shadow: there at zero when it begins, gone when it ends."""

from prometheus_client import CollectorRegistry, generate_latest

from service.shadow_metrics import ShadowMetrics


def text(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_series_are_at_zero_when_a_shadow_begins() -> None:
    registry = CollectorRegistry()
    ShadowMetrics(registry).begin("shapes", "2")
    labels = {"model": "shapes", "candidate": "2"}
    read = registry.get_sample_value
    assert read("detserve_shadow_images_total", labels | {"outcome": "compared"}) == 0
    assert read("detserve_shadow_instances_total", labels | {"kind": "class_changed"}) == 0
    assert read("detserve_shadow_score_shift_count", labels) == 0
    assert read("detserve_shadow_iou_count", labels) == 0


def test_series_vanish_when_a_shadow_ends_and_others_stay() -> None:
    registry = CollectorRegistry()
    metrics = ShadowMetrics(registry)
    metrics.begin("shapes", "2")
    metrics.begin("cars", "7")
    metrics.forget("shapes", "2")
    assert "shapes" not in text(registry)
    assert "cars" in text(registry)


def test_counting_on_an_ended_shadow_brings_nothing_back() -> None:
    registry = CollectorRegistry()
    metrics = ShadowMetrics(registry)
    series = metrics.begin("shapes", "2")
    metrics.forget("shapes", "2")
    series.images["compared"].inc()
    series.iou.observe(0.9)
    assert "shapes" not in text(registry)


def test_a_shadow_of_the_same_version_begins_anew() -> None:
    registry = CollectorRegistry()
    metrics = ShadowMetrics(registry)
    metrics.begin("shapes", "2").images["compared"].inc()
    metrics.forget("shapes", "2")
    metrics.begin("shapes", "2")
    labels = {"model": "shapes", "candidate": "2", "outcome": "compared"}
    assert registry.get_sample_value("detserve_shadow_images_total", labels) == 0
