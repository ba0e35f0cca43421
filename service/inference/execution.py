"""Running one batch on the model thread: bind it to a version, infer, answer every image.

A batch that fails is halved until only what is to blame fails. One that ran out of memory is halved
too, and later ones of its kind are no larger (:mod:`service.inference.memory_caps`). When the device
itself is lost, nothing more runs.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable

from service.errors import ApiError, OutOfDeviceMemory, Unavailable
from service.inference.detector import Prediction
from service.inference.device_errors import DeviceLost, device_loss, is_out_of_memory
from service.inference.memory_caps import MemoryCaps
from service.inference.work import (
    Abandoned,
    Batch,
    BatchRecord,
    Inference,
    SchedulerObserver,
    StalePreparation,
    WorkItem,
    inference_failed,
)
from service.repository.version import ModelVersion

logger = logging.getLogger(__name__)

Pause = Callable[[list[WorkItem]], None]


class BatchRunner:
    """Runs batches.

    Args:
        caps: is told of batches that the device's memory does not hold.
        observer: is told of every batch; must not raise.
    """

    def __init__(self, *, caps: MemoryCaps, observer: SchedulerObserver) -> None:
        self._caps = caps
        self._observer = observer

    def run(self, batch: Batch, pause: Pause) -> int:
        """Run ``batch`` and resolve its items; how many were predicted.

        Args:
            batch: the images.
            pause: called between the parts of a long run with the images in it; may raise
                :class:`Abandoned`.

        Raises:
            DeviceLost: nothing can run any more; the caller answers the items that have no answer.
        """
        try:
            ready = self._bind(batch)
            return self._run_parts(batch, ready, pause) if ready else 0
        except DeviceLost:
            raise
        except Exception as error:  # a defect of ours: nobody may wait for ever because of it
            logger.error("a batch met an unexpected error", exc_info=error)
            for item in batch.items:  # those that have their answer keep it
                item.resolve(inference_failed())
            return 0

    def _bind(self, batch: Batch) -> list[WorkItem]:
        """Those of the batch that are prepared as its version wants them; the others go back."""
        ready = []
        for item in batch.items:
            if not item.lease.bind(batch.version):
                item.resolve(_gone(item))
            elif item.image.recipe == batch.version.detector.recipe:
                ready.append(item)
            else:
                item.resolve(StalePreparation(batch.version))
        return ready

    def _run_parts(self, batch: Batch, ready: list[WorkItem], pause: Pause) -> int:
        """The whole batch, or halves of it, and halves of these, in order."""
        version, reason, predicted = batch.version, batch.reason, 0
        parts = [ready]  # a stack: the next one last
        while parts:
            part = [item for item in parts.pop() if not item.future.done()]
            if not part:
                continue
            most = self._caps.most(version, part[0].image.padded_pixels)
            if len(part) <= most:
                done = self._attempt(version, part, reason, pause)
                if done is not None:
                    predicted += done
                    continue
                # Behind the attempt, since in it the traceback still holds the failed part's tensors.
                most = (len(part) + 1) // 2
            parts += [part[most:], part[:most]]
            reason = "split"
        return predicted

    def _attempt(
        self, version: ModelVersion, part: list[WorkItem], reason: str, pause: Pause
    ) -> int | None:
        """Run ``part`` and answer it; how many were predicted, None when it must be halved."""
        started = time.monotonic()
        try:
            images = [item.image for item in part]
            results = version.detector.infer(images, functools.partial(pause, part))
            if len(results) != len(part):
                raise RuntimeError(f"{len(results)} answers for {len(part)} images")
        except Abandoned:
            return 0
        except Exception as error:  # whatever a model raises
            if not isinstance(error, ApiError):
                lost = device_loss(error)
                if lost is not None:
                    raise lost from error
            if len(part) > 1:
                self._note_split(version, part, error)
                return None
            self._refuse(version, part[0], error)
            return 0
        self._answer(version, part, results, reason, started)
        return len(part)

    def _answer(
        self,
        version: ModelVersion,
        part: list[WorkItem],
        results: list[Prediction],
        reason: str,
        started: float,
    ) -> None:
        elapsed = time.monotonic() - started
        waits = [started - item.enqueued_at for item in part]
        for item, prediction, wait in zip(part, results, waits, strict=True):
            item.resolve(Inference(prediction, version, len(part), wait, elapsed))
        version.statistics.batch_served(len(part), elapsed)
        part[0].model.traffic.add([item.image for item in part])
        height, width = part[0].image.padded_size
        used = sum(item.image.size[0] * item.image.size[1] for item in part)
        self._observer.batch_done(
            BatchRecord(
                model=version.model,
                version=version.label,
                size=len(part),
                padding_ratio=1 - used / (height * width * len(part)),
                reason=reason,
                queue_s=waits,
                inference_s=elapsed,
            )
        )

    def _note_split(self, version: ModelVersion, part: list[WorkItem], error: Exception) -> None:
        """A part of several failed."""
        if not is_out_of_memory(error):
            logger.warning(
                "a batch of %d failed and is halved: %s", len(part), type(error).__name__
            )
            return
        self._observer.out_of_memory(version.model, "split")
        image = part[0].image
        cap = self._caps.too_large(version, len(part), image.padded_pixels)
        height, width = image.padded_size
        logger.warning(
            "%s:%s: %d images of %dx%d (padded) ran out of the device's memory; batches of that size "
            "hold at most %d for now. max_batch_pixels=%d avoids it.",
            version.model,
            version.label,
            len(part),
            height,
            width,
            cap.images,
            cap.pixels,
        )

    def _refuse(self, version: ModelVersion, item: WorkItem, error: Exception) -> None:
        """Answer an image that failed alone."""
        version.statistics.image_failed()
        answer: ApiError
        if is_out_of_memory(error):
            self._observer.out_of_memory(version.model, "rejected")
            height, width = item.image.padded_size
            answer = OutOfDeviceMemory(
                "out_of_device_memory",
                f"This image alone ({height}x{width} after the resize) does not fit the device's "
                "memory. Lower INPUT.MAX_SIZE_TEST or use a larger device.",
            )
        elif isinstance(error, ApiError):
            answer = error
        else:
            logger.error("inference failed on one image", exc_info=error)
            answer = inference_failed()
        item.resolve(answer)


def _gone(item: WorkItem) -> Exception:
    """Of an image whose version was retired: it goes to the current one, if there is one."""
    current = item.model.current
    if not current.retired:
        return StalePreparation(current)
    return Unavailable(
        "model_unavailable",
        f"No version of {current.model!r} is loaded: a swap has failed. Reload one that works.",
    )
