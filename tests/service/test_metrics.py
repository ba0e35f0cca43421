"""Metrics: names, labels and buckets as dashboards expect them, and how many series there are."""

from pathlib import Path

import httpx
import pytest
import torch
from fake_detector import FakeDetector, picture
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.inference.work import BatchRecord
from service.metrics import Metrics
from service.repository.version import ModelVersion

HTTP_SECONDS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30,
)  # fmt: skip
STAGE_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5,
)  # fmt: skip
QUEUE_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
BYTES = (4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

# Name without the prefix: (type, labels). Counters are families without their _total.
FAMILIES = {
    "build_info": ("gauge", {"version", "torch", "torchvision", "cuda"}),
    "http_requests": ("counter", {"method", "route", "code"}),
    "http_request_duration_seconds": ("histogram", {"method", "route"}),
    "http_refused": ("counter", {"code"}),
    "http_requests_in_progress": ("gauge", {"route"}),
    "http_request_size_bytes": ("histogram", {"route"}),
    "http_response_size_bytes": ("histogram", {"route"}),
    "predictions": ("counter", {"model", "version", "outcome"}),
    "queue_depth": ("gauge", {"model"}),
    "queue_capacity": ("gauge", {"model"}),
    "queue_bytes": ("gauge", {"model"}),
    "queue_wait_seconds": ("histogram", {"model"}),
    "stage_duration_seconds": ("histogram", {"model", "stage"}),
    "batch_size": ("histogram", {"model"}),
    "batch_padding_ratio": ("histogram", {"model"}),
    "batch_dispatch": ("counter", {"model", "reason"}),
    "batch_images": ("counter", {"model", "reason"}),
    "batch_memory_cap_images": ("gauge", {"model", "version"}),
    "batch_memory_cap_pixels": ("gauge", {"model", "version"}),
    "detections_per_image": ("histogram", {"model", "version"}),
    "unlabelled_instances": ("counter", {"model"}),
    "detection_score": ("histogram", {"model", "version"}),
    "execution_deviation": ("gauge", {"model", "version", "quantity"}),
    "model_info": ("gauge", {"model", "version", "arch", "weights_sha12", "dtype", "device"}),
    "model_ready": ("gauge", {"model", "version"}),
    "model_current": ("gauge", {"model", "version"}),
    "model_loaded_timestamp_seconds": ("gauge", {"model", "version"}),
    "model_inflight": ("gauge", {"model", "version"}),
    "model_reloads": ("counter", {"model", "outcome"}),
    "model_reload_duration_seconds": ("histogram", {"model", "phase"}),
    "oom": ("counter", {"model", "action"}),
    "gpu_memory_bytes": ("gauge", {"device", "kind"}),
    "model_thread_heartbeat_timestamp_seconds": ("gauge", {"model"}),
}
BUCKETS = {
    "http_request_duration_seconds": HTTP_SECONDS,
    "http_request_size_bytes": BYTES,
    "http_response_size_bytes": BYTES,
    "queue_wait_seconds": QUEUE_SECONDS,
    "stage_duration_seconds": STAGE_SECONDS,
    "batch_size": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
    "batch_padding_ratio": (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75),
    "detections_per_image": (0, 1, 2, 5, 10, 20, 50, 100, 200, 300),
    "detection_score": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1),
    "model_reload_duration_seconds": (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
}


def families(metrics: Metrics) -> dict[str, Metric]:
    text = metrics.render().decode()
    return {
        family.name.removeprefix("detserve_"): family
        for family in text_string_to_metric_families(text)
    }


def series(metrics: Metrics) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in families(metrics).values()
        for sample in family.samples
    }


async def reload(served: Served) -> httpx.Response:
    return await served.client.post("/reload", json={})


async def predict(served: Served, mark: int = 1) -> httpx.Response:
    return await served.client.post("/predict", files={"images": ("a.png", picture(mark))})


@pytest.fixture
async def used(serve: Serve) -> Served:
    """A server that has predicted and reloaded."""
    served = serve()
    assert (await predict(served)).status_code == 200
    assert (await reload(served)).status_code == 200
    served.runtime.metrics.request_refused(431)
    return served


@pytest.mark.anyio
async def test_the_text_is_prometheus_with_the_names_types_and_labels_of_the_dashboards(
    used: Served,
) -> None:
    found = {
        name: (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for name, family in families(used.runtime.metrics).items()
        if not name.endswith("_created") and not name.startswith("process_")
    }
    no_samples_without_a_gpu = {"gpu_memory_bytes": ("gauge", set())}
    no_samples_without_a_shadow = {
        "shadow_images": ("counter", set()),
        "shadow_instances": ("counter", set()),
        "shadow_score_shift": ("histogram", set()),
        "shadow_iou": ("histogram", set()),
    }
    assert found == FAMILIES | no_samples_without_a_gpu | no_samples_without_a_shadow


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="prometheus-client reads /proc")
def test_cpu_time_and_memory_of_the_process_are_told() -> None:
    value = Metrics().registry.get_sample_value
    assert (value("process_cpu_seconds_total") or 0) > 0
    assert (value("process_resident_memory_bytes") or 0) > 1e6


@pytest.mark.anyio
@pytest.mark.parametrize("name", BUCKETS)
async def test_buckets_are_those_of_the_dashboards(used: Served, name: str) -> None:
    family = families(used.runtime.metrics)[name]
    limits = {float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels}
    assert sorted(limits) == [*BUCKETS[name], float("inf")]


def test_every_family_says_what_it_is() -> None:
    assert all(family.documentation for family in families(Metrics()).values())


def test_the_series_of_a_model_exist_at_zero_before_the_first_request(serve: Serve) -> None:
    served = serve()
    for outcome in (
        "ok", "invalid_image", "too_large", "queue_full", "deadline", "disconnected", "oom", "error",
    ):  # fmt: skip
        labels = {"model": "shapes", "version": "1", "outcome": outcome}
        assert served.metric("predictions_total", **labels) == 0
    for reason in ("full", "timeout", "idle", "pixels", "memory", "views", "split"):
        assert served.metric("batch_dispatch_total", model="shapes", reason=reason) == 0
        assert served.metric("batch_images_total", model="shapes", reason=reason) == 0
    for outcome in (
        "swapped", "rolled_back", "loaded", "unchanged", "dry_run", "preflight_failed", "load_failed",
        "validation_failed", "gate_failed", "warmup_failed", "not_recorded",
    ):  # fmt: skip
        assert served.metric("model_reloads_total", model="shapes", outcome=outcome) == 0
    assert served.metric("queue_depth", model="shapes") == 0
    assert served.metric("queue_capacity", model="shapes") == 128
    assert served.metric("oom_total", model="shapes", action="split") == 0


@pytest.mark.anyio
async def test_a_request_is_counted_where_it_belongs(serve: Serve) -> None:
    served = serve()
    await predict(served)
    served.runtime.scheduler.call(lambda: None).result()  # behind the report of the batch
    http = {"method": "POST", "route": "/predict"}
    assert served.metric("http_requests_total", **http, code="200") == 1
    assert served.metric("http_request_duration_seconds_count", **http) == 1
    assert served.metric("http_requests_in_progress", route="/predict") == 0
    assert (served.metric("http_request_size_bytes_sum", route="/predict") or 0) > 100
    assert (served.metric("http_response_size_bytes_sum", route="/predict") or 0) > 100
    model = {"model": "shapes"}
    assert served.metric("batch_dispatch_total", **model, reason="idle") == 1
    assert served.metric("batch_size_sum", **model) == 1
    assert served.metric("queue_wait_seconds_count", **model) == 1
    assert served.metric("stage_duration_seconds_count", **model, stage="inference") == 1
    labels = {"version": "1", "outcome": "ok"}
    assert served.metric("predictions_total", **model, **labels) == 1


@pytest.mark.anyio
async def test_nothing_that_clients_send_makes_new_series(serve: Serve) -> None:
    served = serve()

    async def everything(salt: str) -> None:
        client = served.client
        await client.get(f"/no/such/{salt}")
        await client.get(f"/models/{salt}")
        await client.get(f"/reload/{salt}")
        await client.get(f"/static-offline-docs/{salt}")
        await client.request(f"BREW{salt.upper()}", "/predict")
        file = {f"images{salt}": (f"{salt}.png", picture(1))}
        await client.post("/predict", files=file)
        good = {"images": (f"{salt}.png", picture(1))}
        headers = {"X-Request-ID": salt}
        await client.post("/predict", files=good, headers=headers)
        for option in ("model", "classes", "masks", salt):
            await client.post("/predict", files=good, params={option: salt})
        await client.post("/reload", json={"model": salt})
        await client.post("/reload", json={"weights": f"{salt}.pth", "labels": f"../{salt}"})

    await everything("a")
    before = series(served.runtime.metrics)
    for salt in ("b", "c", "d"):
        await everything(salt)
    assert series(served.runtime.metrics) == before


@pytest.mark.anyio
async def test_probes_are_left_out(serve: Serve) -> None:
    served = serve()
    before = series(served.runtime.metrics)
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await served.client.get(path)).status_code == 200
    assert series(served.runtime.metrics) == before


@pytest.mark.anyio
async def test_a_retired_version_leaves_only_its_counters(serve: Serve) -> None:
    served = serve()
    await predict(served)
    assert (await reload(served)).status_code == 200
    await predict(served)
    old = {name for name, labels in series(served.runtime.metrics) if ("version", "1") in labels}
    assert old <= {"detserve_predictions_total", "detserve_predictions_created"}
    assert served.metric("model_ready", model="shapes", version="2") == 1
    assert served.metric("detection_score_count", model="shapes", version="2") == 3


def test_during_a_drain_both_versions_are_shown_and_one_is_ready() -> None:
    metrics = Metrics()
    old, new = (ModelVersion("shapes", str(n), FakeDetector(n)) for n in (1, 2))
    metrics.version_ready(old)
    metrics.version_current(old)
    old.acquire()
    metrics.version_ready(new)
    metrics.version_current(new)
    metrics.version_draining(old)
    value = metrics.registry.get_sample_value
    for version, ready, current, inflight in (("1", 0, 0, 1), ("2", 1, 1, 0)):
        labels = {"model": "shapes", "version": version}
        assert value("detserve_model_ready", labels) == ready
        assert value("detserve_model_current", labels) == current
        assert value("detserve_model_inflight", labels) == inflight
    metrics.version_closed(old)
    for gauge in ("ready", "current", "inflight"):
        labels = {"model": "shapes", "version": "1"}
        assert value(f"detserve_model_{gauge}", labels) is None


def test_of_versions_that_are_loaded_side_by_side_one_of_each_model_is_current() -> None:
    metrics = Metrics()
    versions = [ModelVersion(m, v, FakeDetector()) for m in ("shapes", "cars") for v in "12"]
    for version in versions:
        metrics.version_ready(version)

    def current() -> list[float | None]:
        value = metrics.registry.get_sample_value
        labels = [{"model": version.model, "version": version.label} for version in versions]
        assert [value("detserve_model_ready", these) for these in labels] == [1] * 4
        return [value("detserve_model_current", these) for these in labels]

    assert current() == [0, 0, 0, 0]
    metrics.version_current(versions[0])
    metrics.version_current(versions[3])
    assert current() == [1, 0, 0, 1]
    metrics.version_current(versions[1])
    assert current() == [0, 1, 0, 1]


def test_a_version_that_drains_behind_its_successor_of_the_same_name_takes_no_series_with_it() -> (
    None
):
    metrics = Metrics()
    old, again = (ModelVersion("shapes", "1", FakeDetector(n)) for n in (1, 2))
    metrics.version_ready(old)
    metrics.version_draining(old)
    metrics.version_ready(again)
    metrics.version_current(again)
    metrics.version_closed(old)
    value = metrics.registry.get_sample_value
    labels = {"model": "shapes", "version": "1"}
    assert value("detserve_model_ready", labels) == 1
    assert value("detserve_model_current", labels) == 1
    assert value("detserve_detection_score_count", labels) == 0
    metrics.version_closed(again)
    assert value("detserve_model_ready", labels) is None


@pytest.mark.anyio
@pytest.mark.parametrize("keep_previous", ["disk", "memory"])
async def test_a_version_that_comes_back_under_its_label_counts_on_fresh_series(
    serve: Serve, tmp_path: Path, keep_previous: str
) -> None:
    for label in "12":
        make_version(tmp_path, label)
    served = serve(loader=FolderLoader(), repository=tmp_path, keep_previous=keep_previous)
    labels = {"model": "shapes", "version": "2"}
    await predict(served)
    assert served.metric("detections_per_image_count", **labels) == 1
    assert (await served.client.post("/reload", json={"version": "1"})).status_code == 200
    assert served.metric("detections_per_image_count", **labels) is None
    assert served.metric("model_ready", **labels) is None
    assert served.metric("model_current", model="shapes", version="1") == 1
    assert (await served.client.post("/models/shapes/rollback", json={})).status_code == 200
    assert served.metric("detections_per_image_count", **labels) == 0
    for _ in range(2):
        await predict(served)
    assert served.metric("detections_per_image_count", **labels) == 2
    assert served.metric("detection_score_count", **labels) == 6
    assert served.metric("model_ready", **labels) == 1
    assert served.metric("model_current", **labels) == 1
    # What only grows has gone on, for rates must not see it fall.
    assert served.metric("predictions_total", **labels, outcome="ok") == 3
    assert served.metric("model_reloads_total", model="shapes", outcome="rolled_back") == 1


def test_a_lost_gpu_costs_no_other_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(index: int) -> tuple[int, int]:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lost)
    assert "detserve_build_info" in Metrics().render().decode()


def test_the_info_of_a_model_tells_its_weights_and_device() -> None:
    metrics = Metrics()
    metrics.version_ready(ModelVersion("shapes", "1", FakeDetector(weights_sha256="ab" * 32)))
    labels = {
        "model": "shapes", "version": "1", "arch": "FakeRCNN", "weights_sha12": "ab" * 6,
        "dtype": "float32", "device": "cpu",
    }  # fmt: skip
    assert metrics.registry.get_sample_value("detserve_model_info", labels) == 1


def test_a_reload_is_counted_by_outcome_and_timed_by_phase() -> None:
    metrics = Metrics()
    metrics.reload_done("shapes", "load_failed", {"load": 0.2})
    value = metrics.registry.get_sample_value
    labels = {"model": "shapes", "outcome": "load_failed"}
    assert value("detserve_model_reloads_total", labels) == 1
    labels = {"model": "shapes", "phase": "load"}
    assert value("detserve_model_reload_duration_seconds_sum", labels) == 0.2


def test_a_batch_is_counted_with_the_wait_of_each_image() -> None:
    metrics = Metrics()
    metrics.batch_done(BatchRecord("shapes", "1", 2, 0.25, "full", [0.1, 0.3], 0.5))
    value = metrics.registry.get_sample_value
    labels = {"model": "shapes"}
    assert value("detserve_batch_size_sum", labels) == 2
    assert value("detserve_batch_padding_ratio_sum", labels) == 0.25
    assert value("detserve_queue_wait_seconds_sum", labels) == pytest.approx(0.4)
    assert value("detserve_queue_wait_seconds_count", labels) == 2
    assert value("detserve_batch_dispatch_total", labels | {"reason": "full"}) == 1
    assert value("detserve_batch_images_total", labels | {"reason": "full"}) == 2


def test_the_cap_of_a_version_that_ran_out_of_memory_is_shown_until_it_is_gone() -> None:
    metrics = Metrics()
    version = ModelVersion("shapes", "1", FakeDetector())
    labels = {"model": "shapes", "version": "1"}

    def shown() -> list[float | None]:
        names = ("detserve_batch_memory_cap_images", "detserve_batch_memory_cap_pixels")
        return [metrics.registry.get_sample_value(name, labels) for name in names]

    metrics.version_ready(version)
    assert shown() == [0, 0]
    metrics.memory_cap("shapes", "1", 4, 4_300_800)
    assert shown() == [4, 4_300_800]
    metrics.memory_cap("shapes", "1", 0, 0)
    assert shown() == [0, 0]
    metrics.version_closed(version)
    assert shown() == [None, None]


@pytest.mark.anyio
async def test_two_apps_in_one_process_count_apart(serve: Serve) -> None:
    first, second = serve(), serve(name="other")
    await predict(first)
    labels = {"version": "1", "outcome": "ok"}
    assert first.metric("predictions_total", model="shapes", **labels) == 1
    assert second.metric("predictions_total", model="other", **labels) == 0
    assert second.metric("predictions_total", model="shapes", **labels) is None
    http = {"method": "POST", "route": "/predict", "code": "200"}
    assert second.metric("http_requests_total", **http) is None
