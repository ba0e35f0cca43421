"""All models of one server: which are served, by which versions, and what changes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

from service.errors import Conflict, NotFound, Unavailable, Unprocessable
from service.inference.threads import use_cores
from service.logging import field_text
from service.repository.disk.changing import remove_version
from service.repository.disk.folder import RepositoryFolder
from service.repository.disk.traffic_file import write_traffic
from service.repository.house import House
from service.repository.jobs import Action, Jobs, ReloadJob
from service.repository.opening import open_model, start_up
from service.repository.orders import Order
from service.repository.refusal import refusal
from service.repository.retiring import Retiring
from service.repository.served import ServedModel
from service.repository.shelf import FileShelf, FolderShelf
from service.repository.source import ModelSource
from service.repository.swap import Swap

logger = logging.getLogger(__name__)
audit = logging.getLogger("service.audit")


class Repository:
    """The served models.

    Args:
        house: what loads and runs versions.
        folder: where models and versions lie on disk; None where files were named alone.
        default: the model that answers requests which name none; None: the one that was served first.
        watch: is told the name of every model before it is served.
    """

    def __init__(
        self,
        house: House,
        *,
        folder: RepositoryFolder | None = None,
        default: str | None = None,
        watch: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._house = house
        self.folder = folder
        self._default = default
        self.jobs = Jobs()
        self._watch = watch
        self._models: dict[str, ServedModel] = {}
        self._lock = threading.Lock()

    # --- looking up -------------------------------------------------------------------------------

    def get(self, name: str | None = None) -> ServedModel:
        """The model called ``name``; the default one when None.

        Raises:
            NotFound: there is no such model.
            Unavailable: none is loaded yet.
        """
        models = [model for model in list(self._models.values()) if model.serves]
        if name is None:
            name = self._default
        if name is None:
            if not models:
                raise Unavailable("not_ready", "No model is loaded yet. Try again soon.")
            # A model that is added never takes this over, now or at the next start.
            return min(models, key=lambda model: model.shelf.record().since or "~")
        model = self._models.get(name)
        if model is not None and model.serves:
            return model
        if not models:
            raise Unavailable("not_ready", "No model is loaded yet. Try again soon.")
        known = [model.name for model in models]
        raise NotFound(
            "unknown_model",
            f"There is no model {name[:80]!r}; there are: {', '.join(known)}.",
            models=known,
        )

    def __len__(self) -> int:
        return sum(model.serves for model in list(self._models.values()))

    def __iter__(self) -> Iterator[ServedModel]:
        return iter([model for model in list(self._models.values()) if model.serves])

    def to_change(self, name: str | None) -> ServedModel:
        """The model called ``name``, served or only on disk; the first that is served when None.

        Raises:
            NotFound: ``unknown_model``.
        """
        if name is None or self.folder is None:
            return self.get(name)
        with self._lock:
            known = self._models.get(name)
            if known is None or not known.serves:
                # Looked for each time: the end of an upload can take an empty folder away again.
                folder = self.folder.model(name)
                if known is None:
                    known = self._models[name] = self._made(name, FolderShelf(folder))
            return known

    # --- at the start -----------------------------------------------------------------------------

    def add(self, name: str, source: ModelSource) -> ServedModel:
        """Load files that were named alone and serve them as ``name``; blocks.

        Raises:
            ModelError, ApiError: they cannot be served.
        """
        shelf = FileShelf()
        model = self._models[name] = self._made(name, shelf)
        candidate = shelf.next(source)
        order = Order(candidate, change=lambda record: record.promoted("1", "start"))
        start_up(model, order, self._house)
        return model

    def open(self) -> None:
        """Load every model of the folder; blocks. See :func:`~service.repository.opening.open_model`.

        Raises:
            ModelError, ApiError: a model has versions, and none of them can be served; or there are
                models, and the default one is none of them.
        """
        assert self.folder is not None, "only a folder can be opened"
        for name in self.folder.models():
            shelf = FolderShelf(self.folder.model(name))
            model = self._models[name] = self._made(name, shelf)
            open_model(model, shelf, self._house)
        if len(self) > 0 and self._default is not None:
            self.get()
        elif len(self) > 1:
            logger.warning(
                "Requests that name no model go to %s, the first that was ever current here; --name "
                "says which",
                self.get().name,
            )

    def _made(self, name: str, shelf: FileShelf | FolderShelf) -> ServedModel:
        self._watch(name)
        return ServedModel(name, shelf)

    # --- changing ---------------------------------------------------------------------------------

    def start(
        self,
        model: ServedModel,
        action: Action,
        order: Callable[[], Order],
        *,
        current: str | None = None,
    ) -> ReloadJob:
        """Begin a change of ``model`` on a thread of its own.

        Args:
            order: what is to be done; asked once no other change of the model runs.
            current: only if this is the current version.

        Raises:
            Conflict: ``reload_running``; or ``current_changed``.
            ApiError: ``order`` refuses.
        """
        self._take(model)
        try:
            serving = model.current.label if model.serves else None
            if current is not None and current != serving:
                raise Conflict(
                    "current_changed",
                    f"The current version of {model.name!r} is {serving}, no longer {current}. Look "
                    "what has happened, then try again.",
                    current=serving,
                )
            made = order()
            job = ReloadJob(
                model.name,
                action,
                candidate=made.candidate.label,
                previous_version=serving,
                dry_run=made.dry_run,
                strategy=made.strategy,
            )
            thread = threading.Thread(
                target=self._run, args=(model, made, job), name="reload", daemon=True
            )
            thread.start()  # which a system without memory refuses
        except BaseException:  # nobody else lets go of the lock
            model.changing.release()
            raise
        self.jobs.add(job)
        return job

    def unload(self, model: ServedModel, label: str) -> int:
        """Let go of a version that is neither current nor has an alias; how many bytes it held. Blocks.

        Raises:
            Conflict: it is in use, or another change runs.
            NotFound, Conflict: it is not there, or not loaded.
        """
        self._take(model)
        try:
            version = model.resolve(label)
            if version is model.current:
                raise Conflict(
                    "version_in_use",
                    f"Version {version.label} is the current one; make another one current first.",
                )
            if model.is_needed(version.label):
                raise Conflict(
                    "version_in_use",
                    f"Version {version.label} has an alias; remove that, or point it elsewhere.",
                )
            return Retiring(model, ReloadJob(model.name), self._house).unload(version)
        finally:
            model.changing.release()

    def remove(self, model: ServedModel, label: str) -> None:
        """Delete a version that is neither current nor has an alias, on disk and in memory. Blocks.

        Raises:
            Unprocessable: ``no_repository``.
            NotFound: ``unknown_version``.
            Conflict: it is in use, or another change runs.
        """
        shelf = model.shelf
        if not isinstance(shelf, FolderShelf):
            raise Unprocessable(
                "no_repository",
                f"{model.name!r} was loaded from files that were named alone; they are yours to delete.",
            )
        if label in model.versions:
            self.unload(model, label)
        self._take(model)
        try:
            remove_version(shelf.folder, label)
            shelf.refresh()
            model.statuses.pop(label, None)
            parked = model.parked
            if parked is not None and parked.label == label:
                model.parked = None
                self._house.call(parked.detector.close)
        finally:
            model.changing.release()

    def _take(self, model: ServedModel) -> None:
        if not model.changing.acquire(blocking=False):
            raise Conflict(
                "reload_running",
                f"A reload of {model.name!r} is running. Wait for it, then try again.",
                model=model.name,
            )

    def _run(self, model: ServedModel, order: Order, job: ReloadJob) -> None:
        succeeded = False
        use_cores(1)
        try:
            Swap(model, order, job, self._house).run()
            succeeded = True
        except Exception as error:  # the job tells it; this thread has no caller
            job.error = refusal(error)
        finally:
            if isinstance(model.shelf, FolderShelf):
                write_traffic(model.shelf.folder.path, model.traffic)
            # Whoever sees that the job has ended may begin the next, and finds it counted.
            model.changing.release()
            try:
                self._house.observer.reload_done(
                    model.name, job.outcome or "load_failed", dict(job.phases_s)
                )
            finally:
                job.phase, job.progress = "done", None
                job.state = "succeeded" if succeeded else "failed"
                job.finished.set()
                _log_end(job)

    def close(self) -> None:
        """Keep what was learnt of the traffic."""
        for model in self:
            shadow = model.shadow
            if shadow is not None:
                shadow.close()
            if isinstance(model.shelf, FolderShelf):
                write_traffic(model.shelf.folder.path, model.traffic)


def _log_end(job: ReloadJob) -> None:
    """How a change ended, for whoever reads the log later: its request may have been answered long before."""
    fields = {
        "action": job.action,
        "model": job.model,
        "version": job.candidate,
        "previous": job.previous_version,
        "job": job.id,
        "outcome": job.outcome,
        "seconds": round(sum(job.phases_s.values()), 3),
        **({"code": job.error.code, "reason": job.error.message} if job.error else {}),
    }
    text = " ".join(f"{name}={field_text(value)}" for name, value in fields.items())
    level = logging.WARNING if job.error else logging.INFO
    audit.log(level, "admin done %s", text, extra={"fields": fields})
