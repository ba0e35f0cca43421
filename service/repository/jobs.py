"""What a change of a model is doing, or did: the resource behind ``/reload/{id}``."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from service.errors import ApiError, NotFound

KEPT_JOBS = 100

Action = Literal["reload", "rollback", "load"]


@dataclass
class ReloadJob:
    """One reload, rollback or load.

    Attributes:
        phase: what it is doing: preflight, load, check, gate, warm_up, swap, drain; done at the end.
        progress: how far the phase is, 0 to 1; None where it cannot tell.
        phases_s: seconds of each phase so far.
        previous_version, version: what answered before, and what answers since; None for neither.
        checks: what the self-check found.
        gate: the table of figures of the gate.
        warm_up: the shapes that ran before the swap.
        freed_bytes: memory of the previous version.
    """

    model: str
    action: Action = "reload"
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: Literal["running", "succeeded", "failed"] = "running"
    outcome: str | None = None
    phase: str = "preflight"
    progress: float | None = None
    phases_s: dict[str, float] = field(default_factory=dict)
    candidate: str | None = None
    previous_version: str | None = None
    version: str | None = None
    dry_run: bool = False
    strategy: str = "side_by_side"
    load_report: dict[str, Any] | None = None
    checks: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None
    warm_up: dict[str, Any] | None = None
    freed_bytes: int | None = None
    warning: str | None = None
    error: ApiError | None = None
    created_at: float = field(default_factory=time.time)
    finished: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """The block is ``phase``: it is told and timed."""
        self.phase, self.progress = phase, None
        started = time.monotonic()
        try:
            yield
        finally:
            elapsed = time.monotonic() - started
            self.phases_s[phase] = self.phases_s.get(phase, 0.0) + elapsed

    def advance(self, done: int, total: int) -> None:
        """``done`` of the ``total`` parts of this phase are done."""
        self.progress = done / total if total else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        shown = {
            key: value
            for key, value in vars(self).items()
            if key not in ("finished", "error", "phases_s")
        }
        phases = {name: round(seconds, 6) for name, seconds in dict(self.phases_s).items()}
        return shown | {
            "outcome": self.outcome if self.state != "running" else None,
            "phases_s": phases,
            "error": self.error.body() if self.error else None,
        }


class Jobs:
    """The last jobs, by id."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, ReloadJob] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, job: ReloadJob) -> None:
        """Keep ``job``; the oldest that has ended goes when they are too many."""
        with self._lock:
            self._jobs[job.id] = job
            over = len(self._jobs) - KEPT_JOBS
            ended = [key for key, kept in self._jobs.items() if kept.finished.is_set()]
            for key in ended[: max(over, 0)]:
                del self._jobs[key]

    def get(self, job_id: str) -> ReloadJob:
        """A job by its id. Raises :class:`NotFound`."""
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise NotFound(
                "unknown_reload",
                f"There is no reload {job_id[:64]!r}; the last {KEPT_JOBS} are kept.",
            )
        return job
