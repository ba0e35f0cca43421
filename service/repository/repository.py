"""All models of one server: which are served, by which versions, and what changes them."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from models.errors import ModelError
from service.errors import ApiError, Conflict, NotFound, Unavailable, Unprocessable
from service.inference.threads import use_cores
from service.repository.disk.adding import sweep
from service.repository.disk.changing import remove_version
from service.repository.disk.folder import RepositoryFolder
from service.repository.disk.record import ModelRecord, record_lock
from service.repository.disk.traffic_file import read_traffic, write_traffic
from service.repository.house import House
from service.repository.jobs import Action, Jobs, ReloadJob
from service.repository.orders import Order
from service.repository.refusal import refusal
from service.repository.retiring import Retiring
from service.repository.served import ServedModel
from service.repository.shelf import FileShelf, FolderShelf
from service.repository.source import ModelSource
from service.repository.swap import Swap
from service.repository.version import VersionState

logger = logging.getLogger(__name__)


class Repository:
    """The served models.

    Args:
        house: what loads and runs versions.
        folder: where models and versions lie on disk; None where files were named alone.
        default: the model that answers requests which name none; None: the first that is served.
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
            return models[0]
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
            if known is None:
                known = self._made(name, FolderShelf(self.folder.model(name)))
                self._models[name] = known
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
        self._start_up(model, Order(candidate, change=lambda record: record.promoted("1", "start")))
        return model

    def open(self) -> None:
        """Load every model of the folder: its current version, and those with an alias; blocks.

        A model without a record gets its newest complete version. One whose current version cannot be
        loaded any more falls back to the previous one, and the record stays: what failed is told.

        Raises:
            ModelError, ApiError: a model has versions, and none of them can be served.
        """
        assert self.folder is not None, "only a folder can be opened"
        for name in self.folder.models():
            model = self._models[name] = self._made(name, FolderShelf(self.folder.model(name)))
            self._open_model(model)

    def _open_model(self, model: ServedModel) -> None:
        shelf = model.shelf
        assert isinstance(shelf, FolderShelf), "it was made with one"
        with contextlib.suppress(ApiError), record_lock(shelf.folder.path):
            sweep(shelf.folder)  # unless the disk is read-only, or another process is at it
        model.traffic = read_traffic(shelf.folder.path)
        record = shelf.record()
        if record.current is None:
            newest = shelf.folder.newest_complete()
            if newest is None:
                logger.warning("%s has no complete version yet", model.name)
                return
            label = newest.label
            order = Order(
                shelf.candidate(label), change=lambda record: record.promoted(label, "start")
            )
            if not os.access(shelf.folder.path, os.W_OK):
                logger.warning(
                    "%s: the folder is read-only, so it is not recorded that %s is current",
                    model.name, label,
                )  # fmt: skip
                order = replace(order, change=None)
            self._start_up(model, order)
            return
        self._open_recorded(model, record)
        for alias, label in sorted(record.aliases.items()):
            if label in model.versions:
                continue
            try:
                self._start_up(model, Order(shelf.candidate(label), make_current=False))
            except (ModelError, ApiError) as error:
                model.mark(label, VersionState.FAILED, str(error))
                logger.error(
                    "%s: version %s, the alias %s, is not served: %s",
                    model.name, label, alias, error,
                )  # fmt: skip

    def _open_recorded(self, model: ServedModel, record: ModelRecord) -> None:
        """The current version, or if that has been damaged the previous one."""
        assert record.current is not None, "asked before"
        try:
            self._start_up(model, Order(model.shelf.candidate(record.current)))
        except (ModelError, ApiError) as error:
            model.mark(record.current, VersionState.FAILED, str(error))
            if record.previous is None:
                raise
            logger.critical(
                "%s: the current version %s cannot be served (%s); going on with the previous one, %s",
                model.name, record.current, error, record.previous,
            )  # fmt: skip
            try:
                self._start_up(model, Order(model.shelf.candidate(record.previous)))
            except (ModelError, ApiError):
                raise error from None

    def _start_up(self, model: ServedModel, order: Order) -> None:
        Swap(model, order, ReloadJob(model.name), self._house).run()

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

    def close(self) -> None:
        """Keep what was learnt of the traffic."""
        for model in self:
            shadow = model.shadow
            if shadow is not None:
                shadow.close()
            if isinstance(model.shelf, FolderShelf):
                write_traffic(model.shelf.folder.path, model.traffic)
