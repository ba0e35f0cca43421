"""Prometheus metrics of one app, in a registry of its own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
import torchvision
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service import __version__
from service.shadow_metrics import ShadowMetrics

if TYPE_CHECKING:
    from service.inference.scheduler import Scheduler
    from service.inference.work import BatchRecord
    from service.repository.version import ModelVersion

PREFIX = "detserve_"
HTTP_SECONDS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    0.75,
    1,
    1.5,
    2.5,
    5,
    10,
    30,
)
HTTP_BYTES = tuple(4**n for n in range(6, 14))  # 4 KiB to 64 MiB
QUEUE_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
STAGE_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5,
)  # fmt: skip
BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
PADDING = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)
DETECTIONS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 300)
SCORES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)
RELOAD_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

OUTCOMES = (
    "ok", "invalid_image", "too_large", "queue_full", "deadline", "disconnected", "oom", "error",
)  # fmt: skip
RETIRED_KEPT = 100
RELOAD_OUTCOMES = (
    "swapped", "rolled_back", "loaded", "unchanged", "dry_run", "preflight_failed", "load_failed",
    "validation_failed", "gate_failed", "warmup_failed", "not_recorded",
)  # fmt: skip
DEVIATIONS = ("score", "box_px", "pixels", "unmatched")
STAGES = ("decode", "inference", "encode")
DISPATCH_REASONS = ("full", "timeout", "idle", "pixels", "memory", "views", "split")


class Metrics:
    """All metrics, named and bucketed for dashboards: seconds, bytes, ratios of 1."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(PREFIX + name, text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
            return Histogram(
                PREFIX + name, text, labels, registry=self.registry, buckets=tuple(buckets)
            )

        gauge(
            "build_info",
            "Versions of what runs, always 1.",
            "version",
            "torch",
            "torchvision",
            "cuda",
        ).labels(
            __version__, torch.__version__, torchvision.__version__, torch.version.cuda or "none"
        ).set(1)
        self.http_requests = counter(
            "http_requests_total", "Requests answered.", "method", "route", "code"
        )
        self.http_seconds = histogram(
            "http_request_duration_seconds", "From the first byte of a request to the last of its answer.",
            HTTP_SECONDS, "method", "route",
        )  # fmt: skip
        self.http_refused = counter(
            "http_refused_total",
            "Requests refused before the app: bad, slow or large heads.",
            "code",
        )
        self.http_in_progress = gauge(
            "http_requests_in_progress", "Requests not yet answered.", "route"
        )
        self.http_request_bytes = histogram(
            "http_request_size_bytes", "Body sizes in.", HTTP_BYTES, "route"
        )
        self.http_response_bytes = histogram(
            "http_response_size_bytes", "Body sizes out.", HTTP_BYTES, "route"
        )
        self.predictions = counter(
            "predictions_total",
            "Images, by how they ended; a request that is refused before its body is read counts as one.",
            "model",
            "version",
            "outcome",
        )
        self.queue_depth = gauge(
            "queue_depth", "Images in the house: from admission to answer.", "model"
        )
        self.queue_capacity = gauge("queue_capacity", "Images that are admitted at most.", "model")
        self.queue_bytes = gauge(
            "queue_bytes", "Bytes of the images that wait for the model.", "model"
        )
        self.queue_wait = histogram(
            "queue_wait_seconds", "Time in the queue.", QUEUE_SECONDS, "model"
        )
        self.stage_seconds = histogram(
            "stage_duration_seconds", "Time in a stage.", STAGE_SECONDS, "model", "stage"
        )
        self.batch_size = histogram("batch_size", "Images that ran together.", BATCH_SIZES, "model")
        self.batch_padding = histogram(
            "batch_padding_ratio",
            "Padded pixels that no image fills, of all in the batch.",
            PADDING,
            "model",
        )
        self.batch_dispatch = counter(
            "batch_dispatch_total", "Batches, by why they left.", "model", "reason"
        )
        self.batch_images = counter(
            "batch_images_total", "Images, by why their batch left.", "model", "reason"
        )
        self.memory_cap_images = gauge(
            "batch_memory_cap_images",
            "Images that a batch may hold since the device ran out of memory; 0: no such cap.",
            "model",
            "version",
        )
        self.memory_cap_pixels = gauge(
            "batch_memory_cap_pixels",
            "Padded pixels that a batch may hold since then, if it has more images; 0: no such cap.",
            "model",
            "version",
        )
        self.detections = histogram(
            "detections_per_image",
            "Instances that the model found.",
            DETECTIONS,
            "model",
            "version",
        )
        self.unlabelled = counter(
            "unlabelled_instances_total",
            "Instances that a labelling project got nothing of, since it has no label for their class.",
            "model",
        )
        self.scores = histogram(
            "detection_score", "Scores of the instances.", SCORES, "model", "version"
        )
        self.model_info = gauge(
            "model_info", "Each version that is loaded, always 1.",
            "model", "version", "arch", "weights_sha12", "dtype", "device",
        )  # fmt: skip
        self.execution_deviation = gauge(
            "execution_deviation",
            "Difference of the execution mode from the reference, on probe pictures at load: the worst "
            "score, box coordinate and share of pixels, and the share of instances without a "
            "counterpart; 0 in the reference mode.",
            "model", "version", "quantity",
        )  # fmt: skip
        self.model_ready = gauge(
            "model_ready", "1 for versions that can answer, 0 while one drains.", "model", "version"
        )
        self.model_current = gauge(
            "model_current", "1 for the version that answers requests which name none.",
            "model", "version",
        )  # fmt: skip
        self.model_loaded = gauge(
            "model_loaded_timestamp_seconds", "When a version was loaded.", "model", "version"
        )
        self.model_inflight = gauge(
            "model_inflight", "Requests bound to a version.", "model", "version"
        )
        self.reloads = counter(
            "model_reloads_total", "Reloads, by how they ended.", "model", "outcome"
        )
        self.reload_seconds = histogram(
            "model_reload_duration_seconds", "Phases of a reload.", RELOAD_SECONDS, "model", "phase"
        )
        self.oom = counter(
            "oom_total", "Times that the device ran out of memory.", "model", "action"
        )
        self.heartbeat = gauge(
            "model_thread_heartbeat_timestamp_seconds",
            "When the model's thread last finished something.",
            "model",
        )
        self.shadow = ShadowMetrics(self.registry)
        self.registry.register(_GpuMemory())
        # CPU time, memory and open files of the process, under Prometheus' own names; Linux only.
        ProcessCollector(registry=self.registry)
        self._retired: deque[tuple[str, str]] = deque()
        self._info_labels: dict[tuple[str, str], tuple[str, ...]] = {}
        # Of the version that the series of a name are about: one may still drain, and be closed, when
        # it has been loaded again.
        self._serials: dict[tuple[str, str], int] = {}

    def watch(self, model: str, scheduler: Scheduler, capacity: int) -> None:
        """Create the children of ``model`` at zero, and read the gauges from ``scheduler`` at each scrape."""
        self.queue_capacity.labels(model).set(capacity)
        self.queue_depth.labels(model).set_function(lambda: float(scheduler.depth))
        self.queue_bytes.labels(model).set_function(lambda: float(scheduler.waiting_bytes))
        self.heartbeat.labels(model).set_function(lambda: scheduler.heartbeat)
        self.queue_wait.labels(model)
        self.batch_size.labels(model)
        self.unlabelled.labels(model)
        self.batch_padding.labels(model)
        for stage in STAGES:
            self.stage_seconds.labels(model, stage)
        for reason in DISPATCH_REASONS:
            self.batch_dispatch.labels(model, reason)
            self.batch_images.labels(model, reason)
        for outcome in RELOAD_OUTCOMES:
            self.reloads.labels(model, outcome)
        for action in ("split", "rejected"):
            self.oom.labels(model, action)

    def batch_done(self, batch: BatchRecord) -> None:
        """A batch has run."""
        self.batch_size.labels(batch.model).observe(batch.size)
        self.batch_padding.labels(batch.model).observe(batch.padding_ratio)
        self.batch_dispatch.labels(batch.model, batch.reason).inc()
        self.batch_images.labels(batch.model, batch.reason).inc(batch.size)
        self.stage_seconds.labels(batch.model, "inference").observe(batch.inference_s)
        for wait in batch.queue_s:
            self.queue_wait.labels(batch.model).observe(wait)

    def out_of_memory(self, model: str, action: str) -> None:
        """The device ran out of memory."""
        self.oom.labels(model, action).inc()

    def memory_cap(self, model: str, version: str, images: int, pixels: int) -> None:
        """Batches of a version are capped since one ran out of memory; 0 and 0: no longer."""
        self.memory_cap_images.labels(model, version).set(images)
        self.memory_cap_pixels.labels(model, version).set(pixels)

    def version_ready(self, version: ModelVersion) -> None:
        """``version`` can answer."""
        description, key = version.detector.description, (version.model, version.label)
        if key in self._retired:  # it has come back
            self._retired.remove(key)
        labels = (
            *key, description.architecture, description.weights_sha256[:12], description.precision,
            description.device,
        )  # fmt: skip
        self._info_labels[key] = labels
        self._serials[key] = version.serial
        self.model_info.labels(*labels).set(1)
        deviation = dict(description.execution.get("deviation") or {})
        deviation["unmatched"] = 1 - deviation.get("matched", 1)
        for quantity in DEVIATIONS:
            self.execution_deviation.labels(*key, quantity).set(deviation.get(quantity, 0))
        self.model_ready.labels(*key).set(1)
        self.model_current.labels(*key).set(0)
        self.model_loaded.labels(*key).set(version.loaded_at)
        self.model_inflight.labels(*key).set_function(lambda: float(version.leases))
        self.memory_cap(*key, images=0, pixels=0)
        self.detections.labels(*key)
        self.scores.labels(*key)
        for outcome in OUTCOMES:
            self.predictions.labels(*key, outcome)

    def version_current(self, version: ModelVersion) -> None:
        """``version`` answers requests that name none; the one before no longer does."""
        for model, label in list(self._info_labels):
            if model == version.model:
                self.model_current.labels(model, label).set(label == version.label)

    def version_draining(self, version: ModelVersion) -> None:
        """``version`` takes no new requests."""
        self.model_ready.labels(version.model, version.label).set(0)

    def version_closed(self, version: ModelVersion) -> None:
        """Forget the series of a version that is gone.

        Its counters stay until a hundred more have gone, since what only grows must not end at once.
        """
        key = (version.model, version.label)
        if self._serials.get(key) != version.serial:
            return
        del self._serials[key]
        self.model_info.remove(*self._info_labels.pop(key))
        for metric in (
            self.model_ready,
            self.model_current,
            self.model_loaded,
            self.model_inflight,
            self.memory_cap_images,
            self.memory_cap_pixels,
            self.detections,
            self.scores,
        ):
            metric.remove(*key)
        for quantity in DEVIATIONS:
            self.execution_deviation.remove(*key, quantity)
        self._retired.append(key)
        if len(self._retired) > RETIRED_KEPT:
            oldest = self._retired.popleft()
            for outcome in OUTCOMES:
                self.predictions.remove(*oldest, outcome)

    def request_refused(self, status: int) -> None:
        """The protocol refused a request before the app saw it."""
        self.http_refused.labels(str(status)).inc()

    def reload_done(self, model: str, outcome: str, phases: dict[str, float]) -> None:
        """A reload ended."""
        self.reloads.labels(model, outcome).inc()
        for phase, seconds in phases.items():
            self.reload_seconds.labels(model, phase).observe(seconds)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _GpuMemory(Collector):
    """Memory of each GPU, read at the scrape; nothing before the process has touched one.

    A device that is lost tells nothing; the other metrics must come all the same.
    """

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(
            PREFIX + "gpu_memory_bytes",
            "GPU memory, of this process and of the device.",
            labels=("device", "kind"),
        )
        if torch.cuda.is_available() and torch.cuda.memory_reserved() > 0:
            for index in range(torch.cuda.device_count()):
                try:
                    free, total = torch.cuda.mem_get_info(index)
                except RuntimeError:
                    break
                for kind, value in (
                    ("allocated", torch.cuda.memory_allocated(index)),
                    ("reserved", torch.cuda.memory_reserved(index)),
                    ("free", free),
                    ("total", total),
                ):
                    family.add_metric((f"cuda:{index}", kind), float(value), timestamp=time.time())
        yield family
