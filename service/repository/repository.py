"""The served models and the swap: load, check, warm up, swap, drain, free; a failure changes nothing."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch

from models.errors import ModelError, PathNotAllowedError
from service.errors import ApiError, Conflict, Forbidden, NotFound, Unavailable, Unprocessable
from service.inference.detector import Detector, WarmsUp
from service.inference.scheduler import Scheduler
from service.inference.threads import use_cores
from service.repository.source import Loader, ModelSource
from service.repository.version import ModelVersion

logger = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 120.0
KEPT_JOBS = 100


class ReloadObserver(Protocol):
    """What wants to know of versions: the metrics."""

    def version_ready(self, version: ModelVersion) -> None:
        """``version`` takes traffic now."""

    def version_closed(self, version: ModelVersion) -> None:
        """``version`` is gone."""

    def reload_done(self, model: str, outcome: str, phases: dict[str, float]) -> None:
        """A reload ended."""


@dataclass
class ReloadJob:
    """One reload, as ``/reload/{id}`` tells it."""

    id: str
    model: str
    state: Literal["running", "succeeded", "failed"] = "running"
    phase: str = "load"
    phases_s: dict[str, float] = field(default_factory=dict)
    previous_version: str = ""
    version: str | None = None
    load_report: dict[str, Any] | None = None
    freed_bytes: int | None = None
    warning: str | None = None
    error: ApiError | None = None
    created_at: float = field(default_factory=time.time)
    finished: threading.Event = field(default_factory=threading.Event)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "id": self.id,
            "model": self.model,
            "state": self.state,
            "phase": self.phase,
            "phases_s": self.phases_s,
            "previous_version": self.previous_version,
            "version": self.version,
            "load_report": self.load_report,
            "freed_bytes": self.freed_bytes,
            "warning": self.warning,
            "error": self.error.body() if self.error else None,
            "created_at": self.created_at,
        }


class ServedModel:
    """A name, its current version and the files to load it from again."""

    def __init__(self, name: str, source: ModelSource, version: ModelVersion) -> None:
        self.name = name
        self.source = source
        self.current = version
        self.reloading = threading.Lock()


class Repository:
    """All models of one server.

    Args:
        scheduler: runs the checks and the warm-up on the model thread.
        load: makes a detector out of files.
        observer: is told of versions and reloads.
    """

    def __init__(self, *, scheduler: Scheduler, load: Loader, observer: ReloadObserver) -> None:
        self._scheduler = scheduler
        self._load = load
        self._observer = observer
        self._models: dict[str, ServedModel] = {}
        self._jobs: OrderedDict[str, ReloadJob] = OrderedDict()

    def add(self, name: str, source: ModelSource) -> ServedModel:
        """Load a model and serve it under ``name``; blocks. Raises :class:`models.ModelError`."""
        detector = self._load(source)
        self._scheduler.call(lambda: check(detector)).result()
        version = ModelVersion(name, "1", detector)
        self._models[name] = ServedModel(name, source, version)
        self._observer.version_ready(version)
        return self._models[name]

    def get(self, name: str | None = None) -> ServedModel:
        """The model called ``name``; the first one when None.

        Raises:
            NotFound: there is no such model.
            Unavailable: none is loaded yet.
        """
        if not self._models:
            raise Unavailable("not_ready", "No model is loaded yet. Try again soon.")
        if name is None:
            return next(iter(self._models.values()))
        try:
            return self._models[name]
        except KeyError:
            known = ", ".join(self._models)
            raise NotFound(
                "unknown_model",
                f"There is no model {name!r}; there are: {known}.",
                models=list(self._models),
            ) from None

    def __len__(self) -> int:
        return len(self._models)

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def job(self, job_id: str) -> ReloadJob:
        """A reload by its id. Raises :class:`NotFound`."""
        try:
            return self._jobs[job_id]
        except KeyError:
            raise NotFound(
                "unknown_reload", f"There is no reload {job_id!r}; the last {KEPT_JOBS} are kept."
            ) from None

    def start_reload(
        self, model: ServedModel, choose: Callable[[ModelSource], ModelSource]
    ) -> ReloadJob:
        """Begin to load the next version of ``model``, on a thread of its own.

        Args:
            choose: from the files of the current version those of the next.

        Raises:
            Conflict: a reload of that model is running.
        """
        if not model.reloading.acquire(blocking=False):
            raise Conflict(
                "reload_running",
                f"A reload of {model.name!r} is running. Wait for it, then try again.",
                model=model.name,
            )
        try:
            source = choose(model.source)
        except BaseException:  # nobody else lets go of the lock
            model.reloading.release()
            raise
        job = ReloadJob(uuid.uuid4().hex, model.name, previous_version=model.current.label)
        self._jobs[job.id] = job
        while len(self._jobs) > KEPT_JOBS:
            self._jobs.popitem(last=False)
        threading.Thread(
            target=self._reload, args=(model, source, job), name="reload", daemon=True
        ).start()
        return job

    def _reload(self, model: ServedModel, source: ModelSource, job: ReloadJob) -> None:
        outcome = "load_failed"
        state: Literal["succeeded", "failed"] = "failed"
        use_cores(1)
        try:
            with _phase(job, "load"):
                detector = self._load(source)
            outcome = "validation_failed"
            with _phase(job, "validate"):
                self._validate(detector)
            old = model.current
            version = ModelVersion(model.name, str(int(old.label) + 1), detector)
            # The swap itself: one reference. From here on the new version answers.
            model.current = version
            model.source = source
            outcome = "swapped"
            job.version = version.label
            job.load_report = detector.description.load_report
            self._observer.version_ready(version)
            with _phase(job, "drain"):
                self._retire(old, job)
            state = "succeeded"
        except Exception as error:  # the job tells it; this thread has no caller
            job.error = _refusal(error)
        finally:
            # Whoever sees that the job has ended may begin the next, and finds it counted.
            model.reloading.release()
            try:
                self._observer.reload_done(model.name, outcome, job.phases_s)
            finally:
                job.phase, job.state = "done", state
                job.finished.set()

    def _validate(self, detector: Detector) -> None:
        """Check on the model thread; a detector that is refused gives its memory back."""
        try:
            self._scheduler.call(lambda: check(detector)).result()
        except Exception:  # whatever it was, the refused detector gives its memory back
            self._scheduler.call(detector.close)
            raise

    def _retire(self, version: ModelVersion, job: ReloadJob) -> None:
        """Free a version once no request is bound to it. Its requests run on the model thread too, so a
        closing call there comes after them."""
        # Whatever was taken from the queue before the swap is bound by now, or will be to the new one.
        self._scheduler.call(lambda: None).result()
        if version.wait_unused(DRAIN_TIMEOUT_S):
            job.freed_bytes = self._free(version)
        else:
            job.warning = (
                f"Version {version.label} still had requests after {DRAIN_TIMEOUT_S:.0f} s; its memory "
                "is freed when they end."
            )
            logger.warning(job.warning)
            threading.Thread(
                target=self._free_later, args=(version,), name="drain", daemon=True
            ).start()

    def _free_later(self, version: ModelVersion) -> None:
        version.wait_unused(None)
        self._free(version)

    def _free(self, version: ModelVersion) -> int:
        """Close a version that nobody uses; how many bytes it held."""
        freed = self._scheduler.call(version.detector.close).result()
        self._observer.version_closed(version)
        return freed


@contextmanager
def _phase(job: ReloadJob, name: str) -> Iterator[None]:
    job.phase = name
    started = time.monotonic()
    try:
        yield
    finally:
        job.phases_s[name] = time.monotonic() - started


def _refusal(error: Exception) -> ApiError:
    """Why a reload was refused, for the client."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PathNotAllowedError):
        return Forbidden("path_outside_root", error.message, **error.details)
    if isinstance(error, ModelError):
        return Unprocessable("model_refused", error.message, **error.details)
    logger.error("a reload failed unexpectedly", exc_info=error)
    return Unprocessable(
        "model_refused", "The model could not be loaded; the server's log has the reason."
    )


def check(detector: Detector) -> None:
    """Run the detector once on noise: warms it up and proves that it answers.

    Raises:
        ModelError: it fails, or answers with numbers that are not finite.
    """
    side = min(detector.description.min_size or 256, 512)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    try:
        whole = np.array([[0, 0, side, side]], dtype=np.float32)
        proposals = whole if detector.description.takes_proposals else None
        prediction = detector.infer([detector.prepare(noise, proposals=proposals)])[0]
        if isinstance(detector, WarmsUp):
            detector.warm_up()
    except Exception as error:  # whatever a model that does not work raises
        logger.error("the self-check failed", exc_info=error)
        raise ModelError(
            f"The model failed its self-check: {type(error).__name__} on a test picture. "
            "The server's log has the reason."
        ) from error
    found, proposed = prediction.instances, prediction.proposals
    numbers = [found.scores, found.pred_boxes.tensor] if found is not None else []
    numbers += [proposed.proposal_boxes.tensor] if proposed is not None else []
    if not all(torch.isfinite(tensor).all() for tensor in numbers):
        raise ModelError(
            "The model failed its self-check: it answers with numbers that are not finite. "
            "The weights are damaged, or the training diverged."
        )
