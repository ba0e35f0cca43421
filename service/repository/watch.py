"""The watch: versions that appear in the repository are taken up by themselves.

A version counts once its manifest is there and agrees with the files, so one that is still being copied
is never touched. What another process has recorded as current is followed. Else the newest version
becomes current that sorts behind all that have ever been: a rollback stays one, and what was passed over
stays so. A version with an alias is left alone, since somebody has a plan for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.errors import ModelError
from service.errors import ApiError, Conflict
from service.repository.disk.folder import ModelFolder
from service.repository.disk.manifest import MANIFEST, file_names
from service.repository.disk.names import natural_key
from service.repository.disk.record import ModelRecord
from service.repository.orders import Order, Wanted, promotion
from service.repository.refusal import refusal
from service.repository.repository import Repository
from service.repository.shelf import FolderShelf
from service.repository.version import VersionState

logger = logging.getLogger(__name__)

MOST_LOOKS = 64
"""Between two tries of a version that nothing is wrong with."""
_NEXT_TIME = frozenset({"reload_running", "current_changed"})
"""Refusals that say nothing of the version."""
_MAY_PASS = frozenset({"not_enough_memory", "state_locked"})
"""Reasons against a version that lie elsewhere, besides all that are the server's own (5xx)."""


@dataclass(frozen=True)
class _Refusal:
    """Why a version was not taken up, and when it may be tried again: after the look ``again_at``, or
    with None once its files (``stamp``) have changed."""

    stamp: object
    tries: int
    again_at: int | None


class Watch:
    """Looks into the repository every ``interval_s`` seconds, on a thread of its own.

    A version that was refused is tried again when its files have changed; where the reason lies
    elsewhere, as with a full disk, it is tried again less and less often.

    Args:
        repository: one with a folder.
        interval_s: seconds between two looks.
        open: whether changes may begin: not once the server drains.
    """

    def __init__(
        self, repository: Repository, interval_s: float, *, open: Callable[[], bool] = lambda: True
    ) -> None:
        self._repository = repository
        self._interval_s = interval_s
        self._open = open
        self._looks = 0
        self._refused: dict[tuple[str, str], _Refusal] = {}
        self._said: dict[tuple[str, str], str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a change that runs goes on."""
        self._stop.set()

    def look(self) -> list[str]:
        """Look once, and wait for what it begins; what was taken up, as ``model:version``."""
        folder = self._repository.folder
        assert folder is not None, "there is nothing else to watch"
        self._looks += 1
        try:
            names = folder.models()
        except (OSError, ApiError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self._say("", "", str(error), f"the repository cannot be read: {reason}")
            return []
        self._said.pop(("", ""), None)
        taken = []
        for name in names:
            try:
                label = self._look_at(name, folder.model(name))
            except (ApiError, ModelError, OSError) as error:
                self._say(name, "", str(error), f"{name}: nothing can be taken up: {error}")
            else:
                self._said.pop((name, ""), None)
                if label is not None:
                    taken.append(f"{name}:{label}")
        return taken

    def _look_at(self, name: str, folder: ModelFolder) -> str | None:
        """The version that was taken up, if any."""
        model = next((model for model in self._repository if model.name == name), None)
        if model is not None and isinstance(model.shelf, FolderShelf):
            record = model.shelf.refresh()
            serving = model.current.label if not model.lost else None
        else:
            record, serving = folder.record(), None
        for label in self._wanted(folder, record, serving):
            if self._stop.is_set() or not self._open():
                return None
            stamp = _stamp(folder, label)
            before = self._refused.get((name, label))
            if before is not None and before.stamp == stamp:
                if before.again_at is None or self._looks < before.again_at:
                    continue
            else:
                before = None
            try:
                if not self._take_up(folder, label, record, serving):
                    return None
            except ApiError as error:
                self._refuse(name, label, error, stamp, before)
            else:
                self._refused.pop((name, label), None)
                self._said.pop((name, label), None)
                logger.info("%s: took up version %s", name, label)
                return label
        return None

    def _wanted(
        self, folder: ModelFolder, record: ModelRecord, serving: str | None
    ) -> Iterator[str]:
        """Versions that should be current instead of ``serving``, the first choice first."""
        if record.current is not None and record.current != serving:
            yield record.current  # another process has decided, or the last start had to fall back
        been = {record.current, serving, *(entry["version"] for entry in record.history)} - {None}
        last = max((natural_key(label) for label in been if label is not None), default=None)
        for version in reversed(folder.versions()):
            label, problem = version.label, version.problem
            if last is not None and natural_key(label) <= last:
                return
            if label in record.aliases.values():
                continue
            if problem is None:
                yield label
            else:
                self._say(
                    folder.name, label, problem.code,
                    f"{folder.name}: version {label} is not taken up yet: {problem.message}",
                    logging.INFO,
                )  # fmt: skip

    def _take_up(
        self, folder: ModelFolder, label: str, record: ModelRecord, serving: str | None
    ) -> bool:
        """Make a version current; False if somebody else is changing the model, or has since we looked.

        Raises:
            ApiError: what refused it.
        """
        model = self._repository.to_change(folder.name)
        # What another process went back to was good enough before, as in a rollback over HTTP.
        back = _is_rollback(record, label)
        wanted = Wanted(folder.root, allow_class_changes=back, gate=False if back else None)

        def order() -> Order:
            if folder.record() != record:
                raise Conflict("current_changed", "The record has changed since it was read.")
            return promotion(model, label, wanted)

        try:
            job = self._repository.start(model, "reload", order, current=serving)
        except Conflict as error:
            if error.code not in _NEXT_TIME:
                raise
            return False
        except (ApiError, ModelError, OSError) as error:
            refused = refusal(error)
            model.mark(label, VersionState.FAILED, refused.message)
            raise refused from error
        job.finished.wait()
        if job.error is not None:
            raise job.error
        return True

    def _refuse(
        self, name: str, label: str, error: ApiError, stamp: object, before: _Refusal | None
    ) -> None:
        """Remember that a version was refused, and say so once."""
        tries = before.tries + 1 if before is not None else 1
        if error.status >= 500 or error.code in _MAY_PASS:
            again_at, next_try = self._looks + min(2**tries, MOST_LOOKS), "later"
        else:
            again_at, next_try = None, "when its files have changed"
        self._refused[name, label] = _Refusal(stamp, tries, again_at)
        self._say(
            name, label, error.message,
            f"{name}: version {label} was refused and is tried again {next_try}: {error.message}",
        )  # fmt: skip

    def _say(
        self, name: str, label: str, reason: str, message: str, level: int = logging.ERROR
    ) -> None:
        """Log once what keeps a version from being taken up, until the reason is another."""
        if self._said.get((name, label)) != reason:
            self._said[name, label] = reason
            logger.log(level, message)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self.look()
            except Exception:  # a defect of ours: the next look may do
                logger.exception("the watch met an unexpected error")


def _is_rollback(record: ModelRecord, label: str) -> bool:
    """Whether the last that was done is to go back to ``label``."""
    last = record.history[-1] if record.history else None
    return last is not None and (last["version"], last["action"]) == (label, "rollback")


def _stamp(folder: ModelFolder, label: str) -> object:
    """Differs once a file of the version has changed; no content is read."""
    try:
        version = folder.version(label)
        names = [MANIFEST, *file_names(version.path)]
    except ApiError as error:
        return error.message
    return tuple(_file_stamp(version.path / name) for name in names)


def _file_stamp(path: Path) -> tuple[object, ...]:
    try:
        found = path.stat()
    except OSError:  # it is not there, or not any more
        return (str(path),)
    return str(path), found.st_ino, found.st_size, found.st_mtime_ns
