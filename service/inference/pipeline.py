"""The way of one image: decode and prepare on a worker, run on the model's thread, encode on a worker."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.encoding.formats.pictures import PICTURES, encode_picture
from service.encoding.instances import Selection, encode_prediction
from service.errors import ApiError, DeadlineMissed, InternalError
from service.image_metrics import ImageMetrics, ImageSeries
from service.images import ImageLimits, decode_image
from service.inference.detector import ModelDescription
from service.inference.preparation import Preparation, RequestShare, Seen
from service.inference.scheduler import Scheduler
from service.inference.threads import Workers
from service.inference.windows.placing import place
from service.inference.windows.progress import ImageProgress, Progress, Tell
from service.inference.windows.tiled import TiledRunner
from service.inference.windows.window import Window
from service.inference.work import Inference, StalePreparation
from service.metrics import Metrics
from service.repository.served import ServedModel
from service.repository.version import RequestLease
from service.schemas.options import PredictOptions
from service.uploads import Upload

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageAnswer:
    """What became of one image: its encoded outputs by name (``instances``, ...), or its error.

    ``tiles`` is how many it was cut into, None without; ``decode_s`` then is that of all of them.
    """

    name: str
    width: int | None = None
    height: int | None = None
    outputs: dict[str, Any] | None = None
    error: ApiError | None = None
    batch_size: int | None = None
    tiles: int | None = None
    decode_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0
    encode_s: float = 0.0


class Pipeline:
    """Predicts the images of one request.

    Args:
        workers: decode, prepare and encode.
        scheduler: runs the models.
        limits: on one image.
        max_request_pixels: of all images, and views, of one request.
        max_tta_pixels: of all views of one image, or tile.
        max_tiles: of one image.
        max_places: that one request may take in the scheduler.
        max_batch_size: images that run together.
        metrics: count the images.
    """

    def __init__(
        self,
        *,
        workers: Workers,
        scheduler: Scheduler,
        limits: ImageLimits,
        max_request_pixels: int,
        max_tta_pixels: int,
        max_tiles: int,
        max_places: int,
        max_batch_size: int,
        metrics: Metrics,
    ) -> None:
        self._workers = workers
        self._scheduler = scheduler
        self._limits = limits
        self._preparation = Preparation(
            limits,
            max_tta_pixels=max_tta_pixels,
            max_tiles=max_tiles,
            max_places=max_places,
        )
        self._max_request_pixels = max_request_pixels
        self._tiled = TiledRunner(
            workers=workers, scheduler=scheduler, max_batch_size=max_batch_size
        )
        self._metrics = ImageMetrics(metrics)

    async def predict(
        self,
        uploads: Sequence[Upload],
        model: ServedModel,
        options: PredictOptions,
        lease: RequestLease,
        *,
        timeout_s: float,
        limit_s: float | None = None,
        request_id: str = "",
        progress: Tell | None = None,
        answered: Callable[[int, ImageAnswer], None] | None = None,
    ) -> list[ImageAnswer]:
        """Answers in the order of ``uploads``, all from the one version that ``lease`` ends up with.

        Args:
            uploads: the images.
            model: answers.
            options: what is asked of it.
            lease: binds the images to one version.
            timeout_s: how long that may take.
            limit_s: the limit of which that is left, as the error names it; None: all of it.
            request_id: under which a shadow notes the images on which it differs.
            progress: is called with the parts that are done and those that are known so far: an image
                is one part, or as many as it has tiles.
            answered: is called with each image's place and answer as soon as it is there.

        Raises:
            DeadlineMissed: ``timeout_s`` seconds were not enough; what was not done is dropped.
        """
        share = RequestShare(
            images=len(uploads),
            workers=self._workers.threads,
            max_pixels=self._max_request_pixels,
        )
        parts = Progress(len(uploads), progress)
        shadow, offer = model.shadow, None
        # A request that names its version is no traffic of the current one.
        if shadow is not None and lease.version is None:
            offer = functools.partial(shadow.offer, request_id=request_id)
        try:
            async with asyncio.timeout(timeout_s) as deadline:
                works = [
                    self._predict_one(
                        upload, index, model, options, lease, share, deadline, offer, parts.image()
                    )
                    for index, upload in enumerate(uploads)
                ]
                if answered is not None:
                    works = [_telling(work, i, answered) for i, work in enumerate(works)]
                # One image alone needs no task beside the request's own.
                return [await works[0]] if len(works) == 1 else await asyncio.gather(*works)
        except TimeoutError:
            limit_s = timeout_s if limit_s is None else limit_s
            raise DeadlineMissed(
                "deadline_missed",
                f"The answer was not ready within {limit_s:g} s. Send fewer images at a time, or give "
                "them more: the request's own limit, or the server's request_timeout_s.",
                limit_s=limit_s,
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
        progress: ImageProgress,
    ) -> ImageAnswer:
        try:
            if options.tiles == "none":
                answer = await self._run(upload, index, model, options, lease, share, offer)
            else:
                answer = await self._run_tiles(
                    upload, index, model, options, lease, share, progress
                )
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
        progress.finish()
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
        data = _data_of(upload)
        prepare = functools.partial(self._preparation.prepare, data, index, options, share)
        async with share.turn:
            version = lease.version or model.current
            prepared, seen, decode_s = await self._workers.run(prepare, version)
        while True:
            try:
                inference = await self._scheduler.infer(model, prepared, lease)
                break
            except StalePreparation as stale:
                prepared, seen, again_s = await self._workers.run(prepare, stale.version)
                decode_s += again_s
        series = self._metrics.of(inference.version)
        picture = self._picture(data, options)
        encoded, encode_s = await self._workers.finish(
            _encode, inference, seen, options, series, picture
        )
        series.decode.observe(decode_s)
        series.encode.observe(encode_s)
        if offer is not None:
            again = functools.partial(self._preparation.prepare_again, index, options)
            offer(prepared, inference, name=upload.name, data=data, prepare=again)
        return ImageAnswer(
            upload.name,
            width=seen.width,
            height=seen.height,
            outputs=encoded,
            batch_size=inference.batch_size,
            decode_s=decode_s,
            queue_s=inference.queue_s,
            inference_s=inference.inference_s,
            encode_s=encode_s,
        )

    def _picture(
        self, data: bytes, options: PredictOptions
    ) -> Callable[[], NDArray[np.uint8]] | None:
        """Decodes the picture once more, to draw on it; None if that is not asked for. To keep its pixels
        while it waits for the model would take more memory than that takes time."""
        if options.format not in PICTURES:
            return None
        return lambda: decode_image(data, self._limits).pixels

    async def _run_tiles(
        self,
        upload: Upload,
        index: int,
        model: ServedModel,
        options: PredictOptions,
        lease: RequestLease,
        share: RequestShare,
        progress: ImageProgress,
    ) -> ImageAnswer:
        """As :meth:`_run` for a picture in tiles; no shadow gets them."""
        data = _data_of(upload)
        async with share.tiled_turn, self._tiled.pictures:
            async with share.turn:
                cut = functools.partial(self._preparation.cut, data, index, options, share)
                picture, decode_s = await self._workers.run(cut, lease.version or model.current)
            found = await self._tiled.run(picture, model, lease, share.turn, progress)
            del picture  # while it is encoded, its pixels may go
        inference = found.inference
        series = self._metrics.of(inference.version)
        seen = Seen(Window.whole(found.height, found.width), found.height, found.width)
        again = self._picture(data, options)
        encoded, encode_s = await self._workers.finish(
            _encode, inference, seen, options, series, again
        )
        decode_s += found.prepare_s
        encode_s += found.merge_s
        series.decode.observe(decode_s)
        series.encode.observe(encode_s)
        return ImageAnswer(
            upload.name,
            width=found.width,
            height=found.height,
            outputs=encoded,
            batch_size=inference.batch_size,
            tiles=found.tiles,
            decode_s=decode_s,
            queue_s=inference.queue_s,
            inference_s=inference.inference_s,
            encode_s=encode_s,
        )


def _data_of(upload: Upload) -> bytes:
    """The bytes of an image that has come."""
    if upload.error is not None or upload.data is None:
        raise upload.error or InternalError("no_data", f"{upload.name} has no bytes.")
    return upload.data


async def _telling(
    work: Awaitable[ImageAnswer], index: int, answered: Callable[[int, ImageAnswer], None]
) -> ImageAnswer:
    """The answer of ``work``, which others are told of."""
    answer = await work
    answered(index, answer)
    return answer


def _encode(
    inference: Inference,
    seen: Seen,
    options: PredictOptions,
    series: ImageSeries,
    picture: Callable[[], NDArray[np.uint8]] | None,
) -> tuple[dict[str, Any], float]:
    """Filter, encode and count what was found; on a worker. The options are those of the version that ran.

    With ``picture`` the one output is the file of the annotated picture.
    """
    started = time.monotonic()
    description: ModelDescription = inference.version.detector.description
    selection = Selection.resolve(options, description)
    prediction = place(inference.prediction, seen.window, seen.height, seen.width)
    if picture is not None and options.format is not None:
        file = encode_picture(picture(), prediction, selection, description, options.format)
        encoded: dict[str, Any] = {"picture": file}
    else:
        encoded = encode_prediction(prediction, selection, description)
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
        429: "queue_full",
        507: "oom",
    }
    return by_status.get(error.status, "error")
