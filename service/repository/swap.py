"""The swap: a version is loaded, proves itself, takes the traffic over, and the old one goes.

Every step before the swap itself leaves all as it was when it fails, and says why. The swap is one
record on disk and one reference in memory, in that order.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from models.errors import ModelError
from service.errors import ApiError, Conflict, Unavailable
from service.inference.detector import Detector
from service.inference.warm_up import MOST_SHAPES, warm_up
from service.repository import retiring
from service.repository.classes import check_classes
from service.repository.house import House
from service.repository.jobs import ReloadJob
from service.repository.orders import Order
from service.repository.parking import unpark, weights_bytes
from service.repository.preflight import check_memory, needed_memory
from service.repository.refusal import refusal
from service.repository.self_check import self_check
from service.repository.served import ServedModel
from service.repository.shelf import Candidate, FileShelf, check_digest
from service.repository.version import ModelVersion, VersionState

logger = logging.getLogger(__name__)


class Swap:
    """One order at work; :meth:`run` blocks and belongs on a thread of its own."""

    def __init__(self, model: ServedModel, order: Order, job: ReloadJob, house: House) -> None:
        self._model = model
        self._order = order
        self._job = job
        self._house = house
        self._label = order.candidate.label
        self._retiring = retiring.Retiring(model, job, house)
        current = model.current if model.serves else None
        # A retired one is what a failed swap in place has left: it neither answers nor holds memory.
        self._old = current if current is not None and not current.retired else None

    def run(self) -> None:
        """Do it. Raises whatever refused the version; ``job.outcome`` says how far it came."""
        order, model = self._order, self._model
        loaded = model.versions.get(self._label)
        if loaded is not None:
            self._use_loaded(loaded)
        elif self._is_parked and order.make_current and not order.dry_run and order.gate is None:
            self._return_parked()
        elif self._old is not None and self._frees_current:
            self._replace_in_place(self._old)
        else:
            version = self._prepare(check_room=True)
            if order.dry_run:
                self._job.outcome = "dry_run"
                self._house.call(version.detector.close)
                model.mark(self._label, VersionState.AVAILABLE)
                return
            self._take_up(version)

    @property
    def _frees_current(self) -> bool:
        """Whether the current version goes before the new one is loaded; else there is room for two."""
        order = self._order
        return order.strategy == "in_place" and order.make_current and not order.dry_run

    # --- a version that is in memory already ------------------------------------------------------

    def _use_loaded(self, version: ModelVersion) -> None:
        """Nothing is to be loaded; classes are compared and a gate is run all the same."""
        self._job.outcome = "preflight_failed"
        self._check_same_files(version)
        self._job.outcome = "validation_failed"
        self._check_classes(version.detector)
        self._run_gate(version.detector)
        order, model = self._order, self._model
        if order.dry_run:
            self._job.outcome = "dry_run"
        elif order.make_current and not (model.serves and model.current is version):
            self._switch(version)
        else:
            self._job.outcome = "not_recorded"
            self._record()
            self._job.outcome = "unchanged"
            self._job.version = version.label

    def _check_same_files(self, version: ModelVersion) -> None:
        """Whether what is loaded is what lies on disk under its name.

        Raises:
            Conflict: ``version_changed``.
        """
        if version.files not in (None, self._order.candidate.files):
            raise Conflict(
                "version_changed",
                f"Version {version.label} is loaded from files that have been replaced since. Give the "
                "new ones a name of their own; or unload it, or restart the server, to have them.",
                version=version.label,
            )

    @property
    def _is_parked(self) -> bool:
        """Whether the version is the previous one, in host memory; or was, and its files are gone."""
        parked, files = self._model.parked, self._order.candidate.files
        if parked is None or parked.label != self._label:
            return False
        return files is None or parked.files == files

    def _return_parked(self) -> None:
        """The previous version, out of host memory."""
        version = self._model.parked
        assert version is not None, "asked before"
        self._job.outcome = "validation_failed"
        self._check_classes(version.detector)
        self._job.outcome = "load_failed"
        with self._job.during("load"):
            unpark(version.detector, call=self._house.call)
        self._model.parked = None
        version.revive()
        self._take_up(version, parked=True)

    # --- a version that is loaded -----------------------------------------------------------------

    def _prepare(self, *, check_room: bool) -> ModelVersion:
        """Load the candidate and let it prove itself; what is refused gives its memory back."""
        model, candidate, job = self._model, self._order.candidate, self._job
        with self._noting_refusal():
            model.mark(self._label, VersionState.LOADING)
            job.outcome = "preflight_failed"
            with job.during("preflight"):
                check_after = model.shelf.check_before(candidate, job.advance)
                if check_room:
                    self._check_room()
            job.outcome = "load_failed"
            with job.during("load"):
                detector = self._house.load(candidate.source)
            try:
                check_after(detector)
                self._prove(detector)
            except BaseException:  # whatever it was, the refused detector gives its memory back
                self._house.scheduler.call(detector.close)
                raise
        version = ModelVersion(model.name, self._label, detector, files=candidate.files)
        version.found = _found(job)
        if isinstance(model.shelf, FileShelf) and not self._order.dry_run:
            model.shelf.keep(candidate, version)
        return version

    @contextmanager
    def _noting_refusal(self) -> Iterator[None]:
        """What the block raises is why this version failed, for all who ask for its state."""
        try:
            yield
        except Exception as error:  # raised again, once the version says why it failed
            known = isinstance(error, ApiError | ModelError)
            told = error if known else refusal(error)
            self._model.mark(self._label, VersionState.FAILED, str(told))
            if known:
                raise
            raise told from error

    def _check_room(self) -> None:
        """Whether there is memory for it; the advice, if not, is to free the current one first."""
        current = weights_bytes(self._old.detector) if self._old is not None else 0
        size = self._order.candidate.source.weights.stat().st_size
        check_memory(
            needed_memory(size, device=self._house.device, current=current or None),
            self._house.free_memory(self._house.device),
            current=current,
            strategy=self._order.strategy if self._frees_current else "side_by_side",
        )

    def _prove(self, detector: Detector) -> None:
        """Classes, self-check, gate and warm-up of a detector that nobody uses yet."""
        model, order, job = self._model, self._order, self._job
        job.load_report = detector.description.load_report
        model.mark(self._label, VersionState.CHECKING)
        job.outcome = "validation_failed"
        with job.during("check"):
            self._check_classes(detector)
            folder = order.candidate.folder
            golden = folder.path if folder is not None and folder.golden is not None else None
            job.checks = self_check(detector, call=self._house.call, golden=golden).to_dict()
            if self._old is not None and self._old.found and _found(job) == 0:
                job.warning = (
                    f"Version {self._label} finds nothing in the stored pictures, in which the current "
                    f"one finds {self._old.found} instances. Only a gate can tell whether it is blind."
                )
                logger.warning(job.warning)
        self._run_gate(detector)
        model.mark(self._label, VersionState.WARMING)
        job.outcome = "warmup_failed"
        with job.during("warm_up"):
            shapes = model.traffic.most_common(MOST_SHAPES)
            job.warm_up = warm_up(
                detector,
                shapes,
                call=self._house.call,
                max_batch_pixels=self._house.max_batch_pixels,
            ).to_dict()
        job.load_report = detector.description.load_report
        self._house.tidied()

    def _check_classes(self, detector: Detector) -> None:
        """Whether class ids mean what they do in the current version, if that is to be replaced."""
        model, order = self._model, self._order
        if model.serves and order.make_current and not order.allow_class_changes:
            check_classes(model.current.detector.description, detector.description)

    def _run_gate(self, detector: Detector) -> None:
        """The validation set, if one was named; against the current version if it is to be compared."""
        gate, job, model = self._order.gate, self._job, self._model
        if gate is None:
            return
        job.outcome = "gate_failed"
        with job.during("gate"):
            job.gate = gate.run(
                detector,
                self._old if self._old is not None and self._old.label != self._label else None,
                call=self._house.call,
                progress=job.advance,
                known=model.gate_figures,
            )
        gate.require_passed(job.gate)

    # --- taking over ------------------------------------------------------------------------------

    def _take_up(self, version: ModelVersion, *, parked: bool = False) -> None:
        """``version`` answers from here on, unless that cannot be recorded: then it gives its memory
        back, or goes back to where it was ``parked``."""
        model = self._model
        try:
            self._add(version)
            if self._order.make_current:
                self._switch(version)
        except Exception:  # raised again, once the memory is given back
            if not (model.serves and model.current is version):
                self._retiring.drain(version, None)
                self._retiring.dispose(version, keep=parked)
            raise

    def _add(self, version: ModelVersion) -> None:
        """``version`` can be named by requests."""
        self._model.versions[version.label] = version
        self._model.mark(version.label, VersionState.READY)
        self._house.observer.version_ready(version)
        if not self._order.make_current:
            self._job.outcome = "not_recorded"
            self._record()
            self._job.outcome = "loaded"
            self._job.version = version.label

    def _record(self) -> None:
        """Write down what is current; the last step that can fail."""
        if self._order.change is not None:
            self._model.shelf.change(self._order.change)

    def _switch(self, version: ModelVersion) -> None:
        """``version`` answers from here on; the old one drains and goes."""
        model, job = self._model, self._job
        job.outcome = "not_recorded"
        with job.during("swap"):
            self._record()
            model.current = version
            self._house.observer.version_current(version)
        job.outcome = "rolled_back" if job.action == "rollback" else "swapped"
        job.version = version.label
        try:
            shadow = model.shadow  # read once: a request may end it at any time
            if shadow is not None:  # it compares with what is no longer current
                shadow.close()
            old = self._old
            if old is not None and old is not version and not old.retired:
                with job.during("drain"):
                    self._retiring.retire(old)
        except Exception as error:  # the swap is recorded: what is left over cannot undo it
            job.warning = (
                f"Version {version.label} is current, but what it has replaced could not be freed: "
                f"{refusal(error).message}"
            )
            logger.error(job.warning)

    # --- one after the other ----------------------------------------------------------------------

    def _replace_in_place(self, old: ModelVersion) -> None:
        """Let the current version go, then load the new one; requests wait in between.

        When the new one is refused, the old one is loaded again from its files.
        """
        model, job = self._model, self._job
        back = model.shelf.candidate(old.label)
        job.outcome = "preflight_failed"
        with self._noting_refusal(), job.during("preflight"):
            # Before the old one goes: most of what can be wrong is wrong now.
            model.shelf.check_before(self._order.candidate, job.advance)
            self._check_room()
            if self._order.gate is not None:
                self._order.gate.measure(old, call=self._house.call, known=model.gate_figures)
        with self._house.scheduler.hold(model.name):
            with job.during("drain"):
                if not self._retiring.drain(old, retiring.DRAIN_TIMEOUT_S):
                    old.revive()
                    self._add(old)
                    raise Unavailable(
                        "drain_timeout",
                        f"Version {old.label} still had requests after {retiring.DRAIN_TIMEOUT_S:.0f} s; "
                        "nothing was changed. Try again.",
                    )
            try:
                with job.during("drain"):
                    job.freed_bytes = self._retiring.dispose(old, keep=False)
                self._take_up(self._prepare(check_room=False))
            except Exception as error:  # raised again, once the old version is back
                self._restore(back, refused=error)
                raise

    def _restore(self, candidate: Candidate, *, refused: Exception) -> None:
        """The version that was freed for one that was ``refused``; it proved itself before.

        Raises:
            Unavailable: ``model_unavailable``: it is not what it was; nothing answers now.
        """
        model = self._model
        try:
            detector = self._house.load(candidate.source)
            try:
                check_digest(candidate, detector)
                warm_up(detector, model.traffic.most_common(MOST_SHAPES), call=self._house.call)
            except BaseException:  # as in _prepare()
                self._house.scheduler.call(detector.close)
                raise
        except Exception as error:  # told as what it means: nothing answers any more
            reason = f"it could not be loaded again: {refusal(error).message}"
            model.mark(candidate.label, VersionState.FAILED, reason)
            model.lost = True
            logger.critical(
                "%s has no version any more: %s: %s", model.name, candidate.label, reason
            )
            raise Unavailable(
                "model_unavailable",
                f"Version {self._label} was refused, and version {candidate.label}, which had made room "
                f"for it, could not be loaded again. No version of {model.name!r} answers now: reload "
                "one that works.",
                refused=refusal(refused).body(),
                not_restored=refusal(error).body(),
            ) from error
        version = ModelVersion(model.name, candidate.label, detector, files=candidate.files)
        model.versions[version.label] = version
        model.mark(version.label, VersionState.READY)
        self._house.observer.version_ready(version)
        model.current = version
        self._house.observer.version_current(version)


def _found(job: ReloadJob) -> int:
    """Instances in the pictures of the self-check."""
    return sum(picture["found"] for picture in (job.checks or {}).get("pictures", ()))
