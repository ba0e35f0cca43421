"""ImageMetrics: every version counts on its own series."""

from fake_detector import FakeDetector

from service.image_metrics import ImageMetrics
from service.metrics import OUTCOMES, Metrics
from service.repository.version import ModelVersion


def version(number: int) -> ModelVersion:
    return ModelVersion("shapes", str(number), FakeDetector(number))


def test_images_count_on_the_series_of_their_version() -> None:
    metrics = Metrics()
    images = ImageMetrics(metrics)
    for number in (1, 2, 2):
        series = images.of(version(number))
        series.outcomes["ok"].inc()
        series.found([0.9, 0.3])
        series.decode.observe(0.25)
    read = metrics.registry.get_sample_value
    labels = {"model": "shapes", "version": "2"}
    assert read("detserve_predictions_total", labels | {"outcome": "ok"}) == 2
    assert read("detserve_detections_per_image_sum", labels) == 4
    assert read("detserve_detection_score_count", labels) == 4
    stage = {"model": "shapes", "stage": "decode"}
    assert read("detserve_stage_duration_seconds_sum", stage) == 0.75


def test_every_outcome_has_a_series() -> None:
    assert set(ImageMetrics(Metrics()).of(version(1)).outcomes) == set(OUTCOMES)


def test_counting_goes_on_after_many_versions() -> None:
    metrics = Metrics()
    images = ImageMetrics(metrics)
    for number in range(1, 41):
        images.of(version(number)).outcomes["ok"].inc()
    images.of(version(1)).outcomes["ok"].inc()
    labels = {"model": "shapes", "version": "1", "outcome": "ok"}
    assert metrics.registry.get_sample_value("detserve_predictions_total", labels) == 2
