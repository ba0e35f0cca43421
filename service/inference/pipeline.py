"""The way of one image: decode and prepare on a worker, run on the model's thread, encode on a worker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.encoding.instances import Selection, encode_instances, select
from service.errors import ApiError, DeadlineMissed, InternalError
from service.images import ImageLimits, decode_image
from service.inference.detector import ModelDescription, PreparedImage
from service.inference.scheduler import Inference, Scheduler, StalePreparation
from service.inference.threads import Workers
from service.metrics import Metrics
from service.repository.repository import ServedModel
from service.repository.version import ModelVersion, RequestLease
from service.schemas.options import PredictOptions
from service.uploads import Upload

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageAnswer:
    """What became of one image: its encoded instances, or its error."""

    name: str
    width: int | None = None
    height: int | None = None
    instances: dict[str, Any] | None = None
    error: ApiError | None = None
    batch_size: int | None = None
    decode_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0
    encode_s: float = 0.0


class Pipeline:
    """Predicts the images of one request."""

    def __init__(
        self, *, workers: Workers, scheduler: Scheduler, limits: ImageLimits, metrics: Metrics
    ) -> None:
        self._workers = workers
        self._scheduler = scheduler
        self._limits = limits
        self._metrics = metrics

    async def predict(
        self,
        uploads: Sequence[Upload],
        model: ServedModel,
        options: PredictOptions,
        lease: RequestLease,
        *,
        timeout_s: float,
    ) -> list[ImageAnswer]:
        """Answers in the order of ``uploads``, all from the one version that ``lease`` ends up with.

        Raises:
            DeadlineMissed: ``timeout_s`` seconds were not enough; what was not done is dropped.
        """
        try:
            async with asyncio.timeout(timeout_s) as deadline:
                return await asyncio.gather(
                    *(
                        self._predict_one(upload, model, options, lease, deadline)
                        for upload in uploads
                    )
                )
        except TimeoutError:
            raise DeadlineMissed(
                "deadline_missed",
                f"The answer was not ready within {timeout_s:g} s. Send fewer images at a time, or "
                "raise request_timeout_s.",
                limit_s=timeout_s,
            ) from None

    async def _predict_one(
        self,
        upload: Upload,
        model: ServedModel,
        options: PredictOptions,
        lease: RequestLease,
        deadline: asyncio.Timeout,
    ) -> ImageAnswer:
        try:
            answer = await self._run(upload, model, options, lease)
        except ApiError as error:
            answer = ImageAnswer(upload.name, error=error)
        except asyncio.CancelledError:
            self._count(model, lease, "deadline" if deadline.expired() else "disconnected")
            raise
        except Exception as error:  # a defect of ours: it must not cost the other images theirs
            logger.error("an image met an unexpected error", exc_info=error)
            failure = InternalError(
                "image_failed", "The server failed on this image; its log has the reason."
            )
            answer = ImageAnswer(upload.name, error=failure)
        self._count(model, lease, _outcome(answer.error))
        return answer

    def _count(self, model: ServedModel, lease: RequestLease, outcome: str) -> None:
        version = lease.version or model.current
        self._metrics.predictions.labels(model.name, version.label, outcome).inc()

    async def _run(
        self, upload: Upload, model: ServedModel, options: PredictOptions, lease: RequestLease
    ) -> ImageAnswer:
        if upload.error is not None or upload.data is None:
            raise upload.error or InternalError("no_data", f"{upload.name} has no bytes.")
        version = lease.version or model.current
        prepared, decode_s = await self._workers.run(self._prepare, upload.data, version)
        while True:
            try:
                inference = await self._scheduler.infer(model, prepared, lease)
                break
            except StalePreparation as stale:
                prepared, again_s = await self._workers.run(
                    self._prepare, upload.data, stale.version
                )
                decode_s += again_s
        encoded, encode_s = await self._workers.run(_encode, inference, options)
        version = inference.version
        stage = self._metrics.stage_seconds
        stage.labels(model.name, "decode").observe(decode_s)
        stage.labels(model.name, "encode").observe(encode_s)
        self._metrics.detections.labels(model.name, version.label).observe(len(inference.instances))
        scores = self._metrics.scores.labels(model.name, version.label)
        for score in inference.instances.scores.tolist():
            scores.observe(score)
        return ImageAnswer(
            upload.name,
            width=prepared.width,
            height=prepared.height,
            instances=encoded,
            batch_size=inference.batch_size,
            decode_s=decode_s,
            queue_s=inference.queue_s,
            inference_s=inference.inference_s,
            encode_s=encode_s,
        )

    def _prepare(self, data: bytes, version: ModelVersion) -> tuple[PreparedImage, float]:
        """Decode and prepare for ``version``; on a worker. Also the seconds that it took."""
        started = time.monotonic()
        pixels = decode_image(data, self._limits).pixels
        return version.detector.prepare(pixels), time.monotonic() - started


def _encode(inference: Inference, options: PredictOptions) -> tuple[dict[str, Any], float]:
    """Filter and encode; on a worker. The options are resolved for the version that ran."""
    started = time.monotonic()
    description: ModelDescription = inference.version.detector.description
    selection = Selection.resolve(options, description)
    encoded = encode_instances(select(inference.instances, selection), selection, description)
    return encoded, time.monotonic() - started


def _outcome(error: ApiError | None) -> str:
    """The label of ``predictions_total`` for an image."""
    if error is None:
        return "ok"
    by_status = {
        400: "invalid_image",
        413: "too_large",
        415: "invalid_image",
        422: "invalid_image",
        507: "oom",
    }
    return by_status.get(error.status, "error")
