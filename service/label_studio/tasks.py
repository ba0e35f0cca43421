"""Tasks of Label Studio -> one prediction for each, in their order, also for those that fail.

Label Studio refuses an answer with fewer predictions than tasks, and asks again for one at a time. So a
task whose picture cannot be had or used gets an empty prediction, and a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from service.encoding.instances import Selection
from service.errors import ApiError, DeadlineMissed
from service.inference.detector import ModelDescription
from service.inference.pipeline import ImageAnswer
from service.inference.threads import Workers
from service.label_studio.config import Control
from service.label_studio.regions import Regions, encode_regions
from service.repository.version import ModelVersion
from service.schemas.options import PredictOptions
from service.uploads import Upload

logger = logging.getLogger(__name__)

TOGETHER = 8
"""Pictures that are fetched and predicted at a time: what a batch takes, and bounds the memory."""


class Answered(Protocol):
    """What became of some pictures, and the version that all of them are from."""

    @property
    def version(self) -> ModelVersion: ...

    @property
    def answers(self) -> Sequence[ImageAnswer]: ...


Ask = Callable[[Sequence[Upload], float], Awaitable[Answered]]
"""Predicts pictures, within so many seconds."""


@dataclass
class Prediction:
    """Of one task; it may have several pictures.

    Attributes:
        found: of all its pictures.
        version: that answered; None if none did.
        failed: whether one of its pictures has no answer.
    """

    found: Regions = field(default_factory=Regions)
    version: ModelVersion | None = None
    failed: bool = False

    def to_dict(self, version: ModelVersion) -> dict[str, Any]:
        """As Label Studio takes it; ``version`` is told if none answered."""
        own = self.version or version
        return {
            "result": self.found.regions,
            "score": self.found.score,
            "model_version": version_name(own),
        }


def version_name(version: ModelVersion) -> str:
    """What Label Studio calls a version: it keeps predictions of each apart."""
    return f"{version.model}@{version.label}"


def options_for(
    controls: Sequence[Control], model: ModelDescription, *, name: str | None
) -> PredictOptions:
    """What the controls need of a model.

    Raises:
        Unprocessable: ``score_threshold_too_low``: the model computes nothing there.
    """
    thresholds = [
        model.default_score if control.score_threshold is None else control.score_threshold
        for control in controls
    ]
    masks = any(control.kind in ("polygonlabels", "brushlabels") for control in controls)
    options = PredictOptions.parse(
        {
            "model": name,
            "score_threshold": min(thresholds, default=None),
            "masks": "rle" if masks else "none",
            "segmentation": "none",
        }
    )
    Selection.resolve(options, model)
    return options


async def predict_tasks(
    tasks: Sequence[Any],
    controls: Sequence[Control],
    *,
    fetch: Callable[[object], Awaitable[bytes]],
    ask: Ask,
    workers: Workers,
    budget_s: float,
) -> list[Prediction]:
    """One prediction for each task.

    Args:
        tasks: as Label Studio sends them.
        controls: of the project.
        fetch: gets the bytes of what a task has for a picture.
        ask: the model.
        workers: encode.
        budget_s: seconds for all; tasks that are not done by then get an empty prediction.

    Raises:
        ApiError: the model took none of the pictures: the server's fault, or its queue is full.
        DeadlineMissed: not one task was done in time.
    """
    done = [Prediction() for _ in tasks]
    keys = list(dict.fromkeys(control.image_key for control in controls))
    pictures = [(index, key) for index in range(len(tasks)) for key in keys]
    until = time.monotonic() + budget_s
    answered = 0
    for start in range(0, len(pictures), TOGETHER):
        part = pictures[start : start + TOGETHER]
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                uploads = await asyncio.gather(*(_upload(tasks[i], key, fetch) for i, key in part))
            asked = await ask(uploads, max(0.001, until - time.monotonic()))
        except (DeadlineMissed, TimeoutError):
            if not answered:
                raise _too_late(len(tasks), budget_s) from None
            _note_late(tasks, done, pictures[start:], budget_s)
            break
        _raise_if_ours(asked.answers)
        for (index, key), answer in zip(part, asked.answers, strict=True):
            own = [control for control in controls if control.image_key == key]
            if answer.error is not None:
                done[index].failed = True
                logger.warning("%s has no prediction: %s", _named(tasks[index]), answer.error)
                continue
            found = await workers.finish(_encode, answer, own, asked.version.detector.description)
            _add(done[index], found, asked.version)
        answered += len(part)
    return done


def _encode(answer: ImageAnswer, controls: Sequence[Control], model: ModelDescription) -> Regions:
    """Regions of one picture; on a worker."""
    instances = (answer.outputs or {}).get("instances")
    if instances is None or answer.width is None or answer.height is None:
        return Regions()
    return encode_regions(instances, controls, model, width=answer.width, height=answer.height)


def _add(prediction: Prediction, found: Regions, version: ModelVersion) -> None:
    prediction.found.regions += found.regions
    prediction.found.scores += found.scores
    prediction.found.dropped += found.dropped
    prediction.version = version


async def _upload(task: Any, key: str, fetch: Callable[[object], Awaitable[bytes]]) -> Upload:
    """The picture under ``key`` of a task's data, or why there is none."""
    data = task.get("data") if isinstance(task, dict) else None
    try:
        return Upload.of(key, await fetch(data.get(key) if isinstance(data, dict) else None))
    except ApiError as error:
        return Upload(key, None, error)


def _raise_if_ours(answers: Sequence[ImageAnswer]) -> None:
    """Raise if every picture failed through the server's fault: an empty answer would be kept as one."""
    errors = [answer.error for answer in answers]
    if errors and all(error is not None and error.status >= 500 for error in errors):
        raise errors[0] or AssertionError("all of them are errors")


def _too_late(tasks: int, budget_s: float) -> DeadlineMissed:
    return DeadlineMissed(
        "deadline_missed",
        f"Not one of {tasks} tasks was done within {budget_s:g} s.",
        limit_s=budget_s,
    )


def _note_late(
    tasks: Sequence[Any],
    done: Sequence[Prediction],
    pictures: Sequence[tuple[int, str]],
    budget_s: float,
) -> None:
    late = sorted({index for index, _ in pictures})
    for index in late:
        done[index].failed = True
    logger.warning(
        "%d of %d tasks have no prediction: they were not done within %g s; the first: %s",
        len(late), len(tasks), budget_s, _named(tasks[late[0]]),
    )  # fmt: skip


def _named(task: Any) -> str:
    given = task.get("id") if isinstance(task, dict) else None
    return f"Label Studio task {str(given)[:40]}"
