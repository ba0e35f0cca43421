"""A candidate version in the shadow of the current one: it answers a share of the images as well, for
comparison alone.

Nothing of it reaches a client. An image is taken once its answer is on its way; the candidate runs when
no batch and no other call wants the model thread, one image at a time; what finds no room is dropped.
Traffic can still wait for an image that the candidate has begun, but for no more than that one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from models.structures import Instances
from service.errors import Conflict, Unavailable
from service.inference.detector import Prediction, PreparedImage
from service.inference.scheduler import Scheduler
from service.inference.threads import Workers
from service.inference.work import Inference
from service.repository.shadow.candidate import check_comparable
from service.repository.shadow.comparison import compare_predictions, wanted_of_candidate
from service.repository.shadow.figures import ShadowFigures
from service.repository.shadow.queue import ShadowQueue, TakenImage
from service.repository.version import ModelVersion
from service.shadow_metrics import ShadowMetrics

logger = logging.getLogger(__name__)

Prepare = Callable[[bytes, ModelVersion], PreparedImage]


class ShadowedModel(Protocol):
    """A served model, as its shadow sees it."""

    shadow: Shadow | None

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def current(self) -> ModelVersion:
        """The version that answers."""


class _Ended(Exception):  # no error: the shadow was closed meanwhile
    """Ends the work for an image."""


class Shadow:
    """Compares a candidate with the current version; :meth:`start` begins one.

    Attributes:
        current: the version that it is compared with, the current one at the start.
        candidate: a loaded version of the same model.
        share: of the images of the current version, 0 to 1, that the candidate gets too.
        started_at: Unix time.
    """

    def __init__(
        self,
        model: ShadowedModel,
        current: ModelVersion,
        candidate: ModelVersion,
        share: float,
        *,
        scheduler: Scheduler,
        workers: Workers,
        metrics: ShadowMetrics,
    ) -> None:
        self.current = current
        self.candidate = candidate
        self.share = share
        self.started_at = time.time()
        self._model = model
        self._scheduler = scheduler
        self._workers = workers
        self._metrics = metrics
        self._figures = ShadowFigures(metrics.begin(model.name, candidate.label))
        # By chance and not every n-th, which could be the same camera each time.
        self._random = random.Random(0)
        self._queue = ShadowQueue()
        self._task: asyncio.Task[None] | None = None
        # The lock guards what close(), from any thread, and the work for an image both decide on.
        self._lock = threading.Lock()
        self._call: Future[tuple[Prediction, float]] | None = None
        self._infers = False
        self._closed = False

    @classmethod
    def start(
        cls,
        model: ShadowedModel,
        candidate: ModelVersion,
        share: float,
        *,
        scheduler: Scheduler,
        workers: Workers,
        metrics: ShadowMetrics,
    ) -> Shadow:
        """Put ``candidate`` in the shadow of ``model``'s current version, in the place of another one.

        Raises:
            Unprocessable: the share is out of range, or the two cannot be compared.
            Conflict: ``version_retired``: the candidate was unloaded, or made current, meanwhile.
        """
        current = model.current
        check_comparable(current, candidate, share)
        if not candidate.acquire():
            raise _retired(candidate)
        former = model.shadow
        if former is not None:
            former.close()
        shadow = cls(
            model, current, candidate, share,
            scheduler=scheduler, workers=workers, metrics=metrics,
        )  # fmt: skip
        model.shadow = shadow
        # A swap that came in between has found no shadow to close.
        if model.current is not current or candidate.retired:
            shadow.close()
            raise _retired(candidate)
        return shadow

    # --- on the event loop --------------------------------------------------------------------

    def offer(
        self,
        image: PreparedImage,
        inference: Inference,
        *,
        name: str,
        request_id: str,
        data: bytes,
        prepare: Prepare,
    ) -> None:
        """Take an image, or leave it; never blocks and never raises.

        Args:
            image: as it ran.
            inference: its answer, which is left as it is.
            name: the image's, as the client sent it.
            request_id: of its request.
            data: the image file.
            prepare: prepares it for another version, on a worker.
        """
        try:
            found = inference.prediction.instances
            if inference.version is not self.current or image.views or found is None:
                return
            if image.wanted.overrides and not self.candidate.detector.description.takes_overrides:
                return
            self._figures.offer()
            if self._random.random() >= self.share:
                return
            same = image.recipe == self.candidate.detector.recipe
            taken = TakenImage(
                name=name,
                request_id=request_id,
                image=image if same else functools.partial(prepare, data, self.candidate),
                nbytes=image.nbytes if same else len(data),
                answer=_without_masks(found),
                wanted=image.wanted,
                current_s=inference.inference_s / inference.batch_size,
            )
            if not self._queue.put(taken):
                self._figures.drop()
            elif self.idle:
                self._task = asyncio.get_running_loop().create_task(self._work())
        except Exception:  # a defect of ours: it must not cost the client the answer
            logger.exception("an image could not be offered to the shadow")

    @property
    def idle(self) -> bool:
        """Whether no image is under way, or waits."""
        return self._task is None or self._task.done()

    def report(self) -> dict[str, Any]:
        """What was found so far, as JSON."""
        return {
            "model": self._model.name,
            "current": self.current.label,
            "candidate": self.candidate.label,
            "share": self.share,
            "started_at": self.started_at,
        } | self._figures.to_dict()

    async def _work(self) -> None:
        """One image after the other, so that preparing them takes no more from the workers than the
        candidate has time for."""
        while (taken := self._queue.next()) is not None:
            await self._answer(taken)
            del taken  # or its pixels would live until the next one comes

    async def _answer(self, taken: TakenImage) -> None:
        try:
            image = taken.image
            if not isinstance(image, PreparedImage):
                image = await self._workers.run(image)
            wanted = wanted_of_candidate(
                taken.wanted, self.current.detector.description, self.candidate.detector.description
            )
            image = dataclasses.replace(image, wanted=wanted)
            found, seconds = await asyncio.wrap_future(self._submit(image))
            await self._workers.run(self._compare, taken, found, seconds)
        except (_Ended, Unavailable):  # closed meanwhile, or the server stops
            self._figures.drop()
        except Exception as error:  # whatever a model raises
            self._fail(error)
        finally:
            self._call = None  # an error in it would keep the tensors of the call alive

    def _submit(self, image: PreparedImage) -> Future[tuple[Prediction, float]]:
        with self._lock:
            if self._closed:
                raise _Ended
            call = functools.partial(self._infer, image)
            self._call = self._scheduler.call(call, when_idle=True)
            return self._call

    def _fail(self, error: Exception) -> None:
        reason = type(error).__name__
        if self._figures.fail(reason):  # the others would say the same at the rate of the traffic
            logger.warning(
                "the shadow %s:%s failed on an image; further failures are counted only",
                self.candidate.model,
                self.candidate.label,
                exc_info=error,
            )

    # --- on the model thread, and on a worker -------------------------------------------------

    def _infer(self, image: PreparedImage) -> tuple[Prediction, float]:
        """The candidate's answer and its seconds; the version cannot be freed meanwhile."""
        with self._lock:
            if self._closed:
                raise _Ended
            self._infers = True
        started = time.monotonic()
        try:
            [prediction] = self.candidate.detector.infer([image])
            return prediction, time.monotonic() - started
        finally:
            with self._lock:
                self._infers = False
                left_to_us = self._closed
            if left_to_us:
                self.candidate.release()

    def _compare(self, taken: TakenImage, prediction: Prediction, candidate_s: float) -> None:
        found = prediction.instances
        if found is None:
            raise ValueError("the candidate answered without instances")
        difference = compare_predictions(
            taken.answer,
            found,
            self.current.detector.description,
            self.candidate.detector.description,
            taken.wanted,
        )
        self._figures.add(
            difference,
            name=taken.name,
            request_id=taken.request_id,
            current_s=taken.current_s,
            candidate_s=candidate_s,
        )

    # --- the end, from any thread -------------------------------------------------------------

    def close(self) -> None:
        """End at once: what waits is dropped, the series are gone, and the lease on the candidate is
        given back; if it runs just now, behind that image. Nothing happens the second time."""
        with self._lock:  # until all is done, so that who comes second finds it done
            if self._closed:
                return
            self._closed = True
            self._queue.close()
            if not self._infers:
                self.candidate.release()
            if self._model.shadow is self:
                self._model.shadow = None
            self._metrics.forget(self._model.name, self.candidate.label)
            call = self._call
        if call is not None:
            call.cancel()


def _retired(candidate: ModelVersion) -> Conflict:
    return Conflict(
        "version_retired",
        f"Version {candidate.label} of {candidate.model!r} was unloaded or made current meanwhile; "
        f"see GET /models/{candidate.model}.",
        version=candidate.label,
    )


def _without_masks(found: Instances) -> Instances:
    return Instances(
        found.image_size,
        pred_boxes=found.pred_boxes,
        scores=found.scores,
        pred_classes=found.pred_classes,
    )
