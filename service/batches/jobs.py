"""The batch jobs of one server: how many there may be, how they run, and when they are forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from service.batches.job import RESULTS, BatchJob
from service.batches.sources import ImageSource
from service.batches.spare_room import SpareRoom
from service.batches.spool import Spool, SpoolFolder
from service.errors import (
    ApiError,
    DeadlineMissed,
    InternalError,
    NotFound,
    QueueFull,
    Unavailable,
    Unprocessable,
)
from service.inference.pipeline import ImageAnswer
from service.inference.windows.progress import Tell
from service.repository.version import ModelVersion
from service.uploads.upload import Upload

logger = logging.getLogger(__name__)

KEPT_JOBS = 100
ATTEMPTS = 3
"""At an image whose deadline is missed: others went before it, and may not the next time."""
BUSY_S = 0.1
RETRY_AFTER_S = 30


Predicted = tuple[ImageAnswer, ModelVersion | None]
"""What became of an image, and the version that answered it, if it came so far."""

Predict = Callable[[Upload, Tell], Awaitable[Predicted]]
"""Predicts one image, tells how many of its parts are done, and reserves its place in the queue before
it waits for anything."""


class BatchJobs:
    """Starts, runs and keeps jobs; on the event loop alone.

    Args:
        spool: where they lie.
        room: what they may take of the server.
        most: that are taken in or run at a time.
        ttl_s: how long one that has ended is kept.
        is_draining: whether the server stops.
    """

    def __init__(
        self,
        spool: Spool,
        room: SpareRoom,
        *,
        most: int,
        ttl_s: float,
        is_draining: Callable[[], bool],
    ) -> None:
        self._spool = spool
        self._room = room
        self._most = most
        self._ttl_s = ttl_s
        self._is_draining = is_draining
        self._jobs: dict[str, BatchJob] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._receiving = 0

    def remove_stale(self) -> None:
        """Remove what a server has left that ended without its own :meth:`close`."""
        self._spool.remove_stale()

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[SpoolFolder]:
        """Within the block a batch is taken in, into a folder that is removed unless a job starts in it.

        Raises:
            QueueFull: ``too_many_batches``.
            InsufficientStorage: the disk takes no folder.
        """
        running = [job for job in self._jobs.values() if not job.ended]
        if len(running) + self._receiving >= self._most:
            known = [job.eta_s for job in running if job.eta_s is not None]
            retry_after = max(1, math.ceil(min(known, default=RETRY_AFTER_S)))
            raise QueueFull(
                "too_many_batches",
                f"The server works on {self._most} batches at a time. Try again in {retry_after} s.",
                retry_after=retry_after,
                limit=self._most,
            )
        self._receiving += 1
        folder: SpoolFolder | None = None
        try:
            folder = await asyncio.to_thread(self._spool.new_folder)
            yield folder
        except OSError as error:
            logger.error("a batch cannot be written: %s", error)
            raise _no_disk() from None
        finally:
            self._receiving -= 1
            if folder is not None and all(job.folder is not folder for job in self._jobs.values()):
                # Even where the request is cancelled.
                await asyncio.shield(asyncio.to_thread(folder.remove))

    def start(
        self,
        source: ImageSource,
        folder: SpoolFolder,
        predict: Predict,
        *,
        model: str,
        coco: bool = False,
    ) -> BatchJob:
        """Begin a job on the images of ``source``; ``model`` and ``coco`` as in :class:`BatchJob`."""
        job = BatchJob(source, folder, model=model, coco=coco)
        self._jobs[job.id] = job
        task = asyncio.create_task(self._run(job, predict), name=f"batch {job.id}")
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))
        self._forget_oldest()
        return job

    def get(self, job_id: str) -> BatchJob:
        """A job by its id. Raises :class:`NotFound`."""
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFound(
                "unknown_batch",
                f"There is no batch {job_id[:64]!r}. One is kept for {self._ttl_s:g} s after its end, "
                f"and the last {KEPT_JOBS} at most.",
            )
        return job

    async def delete(self, job_id: str) -> BatchJob:
        """Cancel a job if it runs, remove its files and forget it; how it ended.

        Raises:
            NotFound: there is no such job.
        """
        job = self.get(job_id)
        job.end("cancelled")
        task = self._tasks.get(job_id)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await asyncio.shield(asyncio.to_thread(self._forget(job).remove))
        return job

    def close(self) -> None:
        """The server ends: so do all jobs, and nothing is left on disk."""
        for job in self._jobs.values():
            job.end("interrupted")
        for timer in self._timers.values():
            timer.cancel()
        for task in list(self._tasks.values()):
            # A loop that has closed has cancelled its tasks itself.
            with contextlib.suppress(RuntimeError):
                task.cancel()
        for job in self._jobs.values():
            job.source.close()
        self._jobs.clear()
        self._spool.close()

    # --- one job ------------------------------------------------------------------------------

    async def _run(self, job: BatchJob, predict: Predict) -> None:
        indices = iter(range(job.total))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._room.most, job.total)):
                    group.create_task(self._work(job, predict, indices))
            job.end("succeeded")
        except* Unavailable as errors:
            if self._is_draining():
                job.end("interrupted")
            else:
                job.end("failed", _first(errors))
        except* ApiError as errors:
            job.end("failed", _first(errors))
        except* OSError as errors:
            logger.error("the results of a batch cannot be written: %s", _first(errors))
            job.end("failed", _no_disk())
        except* Exception as errors:  # a defect of ours: the job must not seem to run for ever
            logger.error("a batch met an unexpected error", exc_info=errors)
            job.end("failed", InternalError("batch_failed", "The server failed; see its log."))
        finally:
            job.end("interrupted")  # where it was cancelled, and not by a client
            job.expires_at = time.time() + self._ttl_s
            await asyncio.shield(asyncio.to_thread(self._tidy, job))
            if job.id in self._jobs:
                loop = asyncio.get_running_loop()
                self._timers[job.id] = loop.call_later(self._ttl_s, self._expire, job)

    async def _work(self, job: BatchJob, predict: Predict, indices: Iterator[int]) -> None:
        """Take one image after the other, until there are no more."""
        for index in indices:
            upload = await asyncio.to_thread(_read, job.source, index)
            answer, version = await self._predict(job, index, upload, predict)
            await job.add(index, answer, version)

    async def _predict(
        self, job: BatchJob, index: int, upload: Upload, predict: Predict
    ) -> Predicted:
        """Raises :class:`Unavailable`: the server stops, or can run nothing any more."""
        attempt = 1
        while True:
            tell = job.parts.begin(index)
            try:
                async with self._room.place():
                    answer, version = await predict(upload, tell)
                if isinstance(answer.error, QueueFull):
                    raise answer.error  # there was no room for its tiles
                return answer, version
            except QueueFull:
                await asyncio.sleep(BUSY_S)  # it needs more places than one
            except DeadlineMissed as error:
                attempt += 1
                if attempt > ATTEMPTS:
                    return ImageAnswer(upload.name, error=error), None
            except Unavailable:
                raise
            except ApiError as error:
                return ImageAnswer(upload.name, error=error), None

    def _tidy(self, job: BatchJob) -> None:
        job.source.close()
        # It was removed.
        with contextlib.suppress(OSError):
            job.folder.remove_inputs(RESULTS)

    def _expire(self, job: BatchJob) -> None:
        folder = self._forget(job)
        asyncio.get_running_loop().run_in_executor(None, folder.remove)

    def _forget_oldest(self) -> None:
        ended = [job for job in self._jobs.values() if job.ended]
        for job in ended[: max(len(self._jobs) - KEPT_JOBS, 0)]:
            self._expire(job)

    def _forget(self, job: BatchJob) -> SpoolFolder:
        self._jobs.pop(job.id, None)
        timer = self._timers.pop(job.id, None)
        if timer is not None:
            timer.cancel()
        return job.folder


def _read(source: ImageSource, index: int) -> Upload:
    name = source.names[index]
    try:
        return Upload.of(name, source.read(index))
    except ApiError as error:
        return Upload(name, None, error)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        unread = Unprocessable("unreadable_image", f"The image cannot be read: {reason}.")
        return Upload(name, None, unread)


def _first(errors: BaseExceptionGroup[Any]) -> Any:
    """One of the errors, out of the groups that they are in."""
    found: Any = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _no_disk() -> ApiError:
    error = ApiError(
        "batch_not_written", "The disk takes no more for batches; the server's log has the reason."
    )
    error.status = 507
    return error
