"""One large picture through the model in tiles, each of them an image of its own to the scheduler.

At most so many tiles of a picture wait for the model that it always has a batch: other requests do not
wait behind all of them. Pictures stay decoded for as long as their tiles run, so only a few do so at a
time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.inference.detector import Prediction, PreparedImage
from service.inference.scheduler import Scheduler
from service.inference.threads import Workers
from service.inference.windows.grid import Grid
from service.inference.windows.merging import merge_instances
from service.inference.windows.placing import place_instances
from service.inference.windows.progress import ImageProgress
from service.inference.windows.semantic import stitch
from service.inference.windows.window import Window
from service.inference.work import CurrentVersion, Inference, StalePreparation
from service.repository.version import ModelVersion, RequestLease

BATCHES_IN_FLIGHT = 2
"""One that runs, and one that is ready when it has."""


@dataclass(frozen=True)
class TiledPicture:
    """A decoded picture and how it is cut.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        grid: the tiles.
        prepare: makes a tile ready for a version, on a worker.
        nms_threshold: of the request; None is the model's own.
    """

    pixels: NDArray[np.uint8]
    grid: Grid
    prepare: Callable[[NDArray[np.uint8], Window, ModelVersion], PreparedImage]
    nms_threshold: float | None = None


@dataclass(frozen=True)
class TiledInference:
    """What the model found in all tiles.

    Attributes:
        inference: the merged prediction, in pixels of the picture; the longest wait and run of a tile.
        height, width: of the picture.
        tiles: how many.
        prepare_s, merge_s: seconds of a worker.
    """

    inference: Inference
    height: int
    width: int
    tiles: int
    prepare_s: float
    merge_s: float


class TiledRunner:
    """Runs the tiles of pictures.

    Args:
        workers: prepare and merge.
        scheduler: runs the model; each tile takes a place in it.
        max_batch_size: see :data:`BATCHES_IN_FLIGHT`.
    """

    def __init__(self, *, workers: Workers, scheduler: Scheduler, max_batch_size: int) -> None:
        self._workers = workers
        self._scheduler = scheduler
        self._in_flight = BATCHES_IN_FLIGHT * max_batch_size
        # One that is decoded while the others' tiles run.
        self.pictures = asyncio.Semaphore(workers.threads + 1)

    async def run(
        self,
        picture: TiledPicture,
        model: CurrentVersion,
        lease: RequestLease,
        turn: asyncio.Semaphore,
        progress: ImageProgress,
    ) -> TiledInference:
        """Run all tiles, on one version; cancelling it, or a tile that fails, drops the others.

        Args:
            picture: within ``pictures``. A place in the scheduler is reserved for it as an image.
            model: answers.
            lease: of the request.
            turn: the request's share of the workers.
            progress: is told of every tile.

        Raises:
            QueueFull: there is no room for its tiles.
            ApiError: the model failed on a tile.
        """
        windows = picture.grid.tiles
        self._scheduler.reserve(len(windows) - 1)
        try:
            progress.plan(len(windows))
            in_flight = asyncio.Semaphore(self._in_flight)
            tasks = [
                asyncio.ensure_future(
                    self._run_tile(picture, window, model, lease, turn, in_flight, progress)
                )
                for window in windows
            ]
            try:
                ran = await asyncio.gather(*tasks)
            except BaseException:  # one has failed, or nobody waits: the others are for nothing
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                raise
        finally:
            self._scheduler.unreserve(len(windows) - 1)
        inferences = [inference for inference, _ in ran]
        merged, merge_s = await self._workers.finish(_merge, picture, inferences)
        inference = Inference(
            merged,
            inferences[0].version,
            batch_size=max(inference.batch_size for inference in inferences),
            queue_s=max(inference.queue_s for inference in inferences),
            inference_s=max(inference.inference_s for inference in inferences),
        )
        height, width = picture.pixels.shape[:2]
        prepare_s = sum(seconds for _, seconds in ran)
        return TiledInference(inference, height, width, len(windows), prepare_s, merge_s)

    async def _run_tile(
        self,
        picture: TiledPicture,
        window: Window,
        model: CurrentVersion,
        lease: RequestLease,
        turn: asyncio.Semaphore,
        in_flight: asyncio.Semaphore,
        progress: ImageProgress,
    ) -> tuple[Inference, float]:
        """Its inference, in pixels of the picture, and the seconds that the preparation took."""
        async with in_flight:
            prepare_s = 0.0
            version = lease.version or model.current
            while True:
                async with turn:
                    prepared, seconds = await self._workers.run(_prepare, picture, window, version)
                prepare_s += seconds
                try:
                    inference = await self._scheduler.infer(model, prepared, lease)
                    break
                except StalePreparation as stale:
                    version = stale.version
            del prepared
            placed = await self._workers.finish(_place, picture, window, inference)
        progress.step()
        return placed, prepare_s


def _prepare(
    picture: TiledPicture, window: Window, version: ModelVersion
) -> tuple[PreparedImage, float]:
    started = time.monotonic()
    prepared = picture.prepare(picture.pixels, window, version)
    return prepared, time.monotonic() - started


def _place(picture: TiledPicture, window: Window, inference: Inference) -> Inference:
    """The tile's instances in pixels of the picture; its semantic map stays as it is."""
    height, width = picture.pixels.shape[:2]
    prediction = inference.prediction
    if prediction.instances is not None:
        instances = place_instances(prediction.instances, window, height, width)
        prediction = dataclasses.replace(prediction, instances=instances)
    return dataclasses.replace(inference, prediction=prediction)


def _merge(picture: TiledPicture, inferences: Sequence[Inference]) -> tuple[Prediction, float]:
    """The picture's prediction, and the seconds that it took; on a worker."""
    started = time.monotonic()
    height, width = picture.pixels.shape[:2]
    predictions = [inference.prediction for inference in inferences]
    instances = [p.instances for p in predictions if p.instances is not None]
    maps = [p.sem_seg for p in predictions if p.sem_seg is not None]
    nms_threshold = picture.nms_threshold
    if nms_threshold is None:
        nms_threshold = inferences[0].version.detector.description.nms_threshold
    merged = Prediction(
        instances=merge_instances(instances, picture.grid, nms_threshold=nms_threshold)
        if instances
        else None,
        sem_seg=stitch(maps, picture.grid, height, width) if maps else None,
    )
    return merged, time.monotonic() - started
