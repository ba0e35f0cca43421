"""The way of one image: decode and prepare on a worker, run on the model's thread, encode on a worker."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.encoding.instances import Selection, encode_prediction
from service.errors import ApiError, DeadlineMissed, InternalError, TooLarge
from service.image_metrics import ImageMetrics, ImageSeries
from service.images import ImageLimits, decode_image
from service.inference.detector import ModelDescription, PreparedImage
from service.inference.scheduler import Scheduler
from service.inference.threads import Workers
from service.inference.work import Inference, StalePreparation
from service.metrics import Metrics
from service.repository.served import ServedModel
from service.repository.version import ModelVersion, RequestLease
from service.schemas.options import PredictOptions
from service.uploads import Upload

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageAnswer:
    """What became of one image: its encoded outputs by name (``instances``, ...), or its error."""

    name: str
    width: int | None = None
    height: int | None = None
    outputs: dict[str, Any] | None = None
    error: ApiError | None = None
    batch_size: int | None = None
    decode_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0
    encode_s: float = 0.0


class RequestShare:
    """What one request may take of the workers, so that a large one does not stop the others.

    At most as many of its images are decoded or wait for a worker as there are workers, and all of
    them together have a budget of pixels.
    """

    def __init__(self, *, workers: int, max_pixels: int) -> None:
        self.turn = asyncio.Semaphore(workers)
        self._max_pixels = max_pixels
        self._spent = 0
        self._lock = threading.Lock()

    def spend(self, pixels: int) -> None:
        """Take ``pixels`` of the budget, on a worker. Raises :class:`TooLarge` when it is spent."""
        with self._lock:
            if self._spent + pixels > self._max_pixels:
                raise TooLarge(
                    "too_many_pixels",
                    f"The images of this request have more than {self._max_pixels} pixels together; "
                    "send this one in a request of its own.",
                    limit=self._max_pixels,
                    value=self._spent + pixels,
                )
            self._spent += pixels


class Pipeline:
    """Predicts the images of one request."""

    def __init__(
        self,
        *,
        workers: Workers,
        scheduler: Scheduler,
        limits: ImageLimits,
        max_request_pixels: int,
        max_tta_pixels: int,
        metrics: Metrics,
    ) -> None:
        self._workers = workers
        self._scheduler = scheduler
        self._limits = limits
        self._max_request_pixels = max_request_pixels
        self._max_tta_pixels = max_tta_pixels
        self._metrics = ImageMetrics(metrics)

    async def predict(
        self,
        uploads: Sequence[Upload],
        model: ServedModel,
        options: PredictOptions,
        lease: RequestLease,
        *,
        timeout_s: float,
        request_id: str = "",
    ) -> list[ImageAnswer]:
        """Answers in the order of ``uploads``, all from the one version that ``lease`` ends up with.

        Args:
            uploads: the images.
            model: answers.
            options: what is asked of it.
            lease: binds the images to one version.
            timeout_s: how long that may take.
            request_id: under which a shadow notes the images on which it differs.

        Raises:
            DeadlineMissed: ``timeout_s`` seconds were not enough; what was not done is dropped.
        """
        share = RequestShare(workers=self._workers.threads, max_pixels=self._max_request_pixels)
        shadow, offer = model.shadow, None
        # A request that names its version is no traffic of the current one.
        if shadow is not None and lease.version is None:
            offer = functools.partial(shadow.offer, request_id=request_id)
        try:
            async with asyncio.timeout(timeout_s) as deadline:
                works = [
                    self._predict_one(upload, index, model, options, lease, share, deadline, offer)
                    for index, upload in enumerate(uploads)
                ]
                # One image alone needs no task beside the request's own.
                return [await works[0]] if len(works) == 1 else await asyncio.gather(*works)
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
        index: int,
        model: ServedModel,
        options: PredictOptions,
        lease: RequestLease,
        share: RequestShare,
        deadline: asyncio.Timeout,
        offer: Callable[..., None] | None,
    ) -> ImageAnswer:
        try:
            answer = await self._run(upload, index, model, options, lease, share, offer)
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
        self._metrics.of(version).outcomes[outcome].inc()

    async def _run(
        self,
        upload: Upload,
        index: int,
        model: ServedModel,
        options: PredictOptions,
        lease: RequestLease,
        share: RequestShare,
        offer: Callable[..., None] | None,
    ) -> ImageAnswer:
        if upload.error is not None or upload.data is None:
            raise upload.error or InternalError("no_data", f"{upload.name} has no bytes.")
        prepare = functools.partial(self._prepare, upload.data, index, options, share)
        async with share.turn:
            version = lease.version or model.current
            prepared, decode_s = await self._workers.run(prepare, version)
        while True:
            try:
                inference = await self._scheduler.infer(model, prepared, lease)
                break
            except StalePreparation as stale:
                prepared, again_s = await self._workers.run(prepare, stale.version)
                decode_s += again_s
        series = self._metrics.of(inference.version)
        encoded, encode_s = await self._workers.finish(_encode, inference, options, series)
        series.decode.observe(decode_s)
        series.encode.observe(encode_s)
        if offer is not None:
            again = functools.partial(self._prepare_again, index, options)
            offer(prepared, inference, name=upload.name, data=upload.data, prepare=again)
        return ImageAnswer(
            upload.name,
            width=prepared.width,
            height=prepared.height,
            outputs=encoded,
            batch_size=inference.batch_size,
            decode_s=decode_s,
            queue_s=inference.queue_s,
            inference_s=inference.inference_s,
            encode_s=encode_s,
        )

    def _admit_views(self, pixels: int, share: RequestShare) -> None:
        """The bounds on all views of one image, and on the request."""
        if pixels > self._max_tta_pixels:
            raise TooLarge(
                "too_many_view_pixels",
                f"The views of this image have {pixels} pixels together; the limit is "
                f"{self._max_tta_pixels}. Name fewer or smaller sizes in tta.",
                limit=self._max_tta_pixels,
                value=pixels,
            )
        share.spend(pixels)

    def _prepare(
        self,
        data: bytes,
        index: int,
        options: PredictOptions,
        share: RequestShare,
        version: ModelVersion,
    ) -> tuple[PreparedImage, float]:
        """Decode and prepare for ``version``; on a worker. Also the seconds that it took."""
        started = time.monotonic()
        selection = Selection.resolve(options, version.detector.description)
        pixels = decode_image(data, self._limits, admit=share.spend).pixels
        if selection.tta is not None:
            self._admit_views(selection.tta.pixels(*pixels.shape[:2]), share)
        prepared = version.detector.prepare(
            pixels, tta=selection.tta, proposals=_proposals(options, index)
        )
        prepared = dataclasses.replace(prepared, wanted=selection.wanted)
        return prepared, time.monotonic() - started

    def _prepare_again(
        self, index: int, options: PredictOptions, data: bytes, version: ModelVersion
    ) -> PreparedImage:
        """Prepare an answered image for a version in the shadow; on a worker. What it is asked for, the
        shadow says, and the request's budget is not touched: the request may have ended."""
        pixels = decode_image(data, self._limits).pixels
        return version.detector.prepare(pixels, proposals=_proposals(options, index))


def _proposals(options: PredictOptions, index: int) -> NDArray[np.float32] | None:
    """(P, 4) float32 XYXY in pixels of image ``index``, for a model that takes them."""
    if options.proposals is None:
        return None
    return np.array(options.proposals[index], dtype=np.float32).reshape(-1, 4)


def _encode(
    inference: Inference, options: PredictOptions, series: ImageSeries
) -> tuple[dict[str, Any], float]:
    """Filter, encode and count what was found; on a worker. The options are those of the version that ran."""
    started = time.monotonic()
    description: ModelDescription = inference.version.detector.description
    selection = Selection.resolve(options, description)
    encoded = encode_prediction(inference.prediction, selection, description)
    if inference.prediction.instances is not None:
        series.found(inference.prediction.scores.tolist())
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
