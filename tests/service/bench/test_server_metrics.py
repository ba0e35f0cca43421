"""The server's own account: the difference of two reads of its metrics."""

import pytest

from service.bench.server_metrics import Account, Scrape
from service.inference.work import BatchRecord
from service.metrics import Metrics


def scrape(metrics: Metrics) -> Scrape:
    return Scrape(metrics.render().decode())


@pytest.fixture
def metrics() -> Metrics:
    """Some work was done already, which is nobody's business."""
    metrics = Metrics()
    work(metrics, sizes=(1, 5), inference_s=9.0)
    return metrics


def work(metrics: Metrics, sizes: tuple[int, ...], inference_s: float = 0.4) -> None:
    """Batches of ``sizes`` images, as the service reports them."""
    for size in sizes:
        batch = BatchRecord("shapes", "1", size, 0.0, "full", [0.1] * size, inference_s)
        metrics.batch_done(batch)
        for _ in range(size):
            metrics.stage_seconds.labels("shapes", "decode").observe(0.02)
            metrics.stage_seconds.labels("shapes", "encode").observe(0.04)
            metrics.predictions.labels("shapes", "1", "ok").inc()


def account(metrics: Metrics, sizes: tuple[int, ...]) -> Account:
    before = scrape(metrics)
    work(metrics, sizes)
    found = scrape(metrics).since(before)
    assert found is not None
    return found


def test_images_and_batches_are_those_of_the_window(metrics: Metrics) -> None:
    found = account(metrics, (1, 2, 4, 4, 5, 6, 40))
    assert found.images == found.batch_images == 62
    assert found.batches == {"1": 1, "2": 1, "4": 2, "5-6": 2, "over 32": 1}
    assert found.mean_batch == pytest.approx(62 / 7)
    assert found.dispatch == {"full": 7}
    assert found.outcomes == {"ok": 62}


def test_the_time_of_a_batch_is_shared_by_its_images(metrics: Metrics) -> None:
    found = account(metrics, (4, 4))
    stages = found.stage_ms()
    assert list(stages) == ["decode", "queue", "inference", "encode"]
    assert list(stages.values()) == pytest.approx([20, 100, 100, 40])
    assert found.batch_ms == pytest.approx(400)


def test_models_are_added_up(metrics: Metrics) -> None:
    before = scrape(metrics)
    for model in ("a", "b"):
        metrics.batch_done(BatchRecord(model, "1", 2, 0.0, "idle", [0.5, 0.5], 0.2))
    found = scrape(metrics).since(before)
    assert found is not None
    assert found.batches == {"2": 2}
    assert found.stage_ms()["queue"] == pytest.approx(500)


def test_cpu_time_and_memory_are_of_the_process(metrics: Metrics) -> None:
    found = account(metrics, (1,))
    assert found.cpu_s is not None
    assert found.cpu_s >= 0
    assert (found.rss_bytes or 0) > 1e6


def test_nothing_happened(metrics: Metrics) -> None:
    found = account(metrics, ())
    assert found.images == 0
    assert found.mean_batch is None
    assert found.batch_ms is None
    assert found.stage_ms() == {}


def test_a_server_that_has_started_anew_has_no_account(metrics: Metrics) -> None:
    assert scrape(Metrics()).since(Scrape("x_total 5\n")) is not None
    assert Scrape("x_total 4\n").since(Scrape("x_total 5\n")) is None


def test_two_windows_add_up(metrics: Metrics) -> None:
    both = account(metrics, (1, 2)) + account(metrics, (2, 8))
    assert both.images == 13
    assert both.batches == {"1": 1, "2": 2, "7-8": 1}
    assert both.stage_ms()["decode"] == pytest.approx(20)
    assert both.stage_ms()["inference"] == pytest.approx(1000 * 4 * 0.4 / 13)
    assert both.dispatch == {"full": 4}
    assert both.cpu_s is not None


def test_of_another_server_cpu_time_is_known_if_it_tells() -> None:
    other = "# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total 3.5\n"
    found = Scrape(other.replace("3.5", "4.0")).since(Scrape(other))
    assert found == Account(cpu_s=0.5)


def test_versions_are_labels(metrics: Metrics) -> None:
    [build] = scrape(metrics).labels_of("build_info")
    assert {"version", "torch", "torchvision"} <= set(build)


def test_what_is_not_prometheus_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        Scrape("<html>not found</html>")
