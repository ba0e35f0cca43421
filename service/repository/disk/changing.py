"""What an operator does to versions on disk, with or without a server: promote, roll back, remove."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator

from service.errors import Conflict
from service.repository.disk.adding import REMOVED
from service.repository.disk.atomic_file import sync_folder
from service.repository.disk.disk_errors import writing
from service.repository.disk.folder import ModelFolder
from service.repository.disk.manifest import MANIFEST, Progress
from service.repository.disk.record import ModelRecord, read_record, record_lock, write_record
from service.repository.disk.regular_files import VersionProblem


def remove_version(model: ModelFolder, label: str) -> None:
    """Take a version out and delete its files; it stops to count as complete first.

    Of a version that is a symlink the link goes alone.

    Raises:
        NotFound: ``unknown_version``.
        Conflict: ``version_in_use``: it is current, or has an alias.
        StateNotWritten, VersionNotWritten: the disk does not take the change.
    """
    with writing(), record_lock(model.path):
        version = model.version(label)
        record = read_record(model.path)
        aliases = [alias for alias, aliased in record.aliases.items() if aliased == label]
        if label == record.current or aliases:
            use = "current" if label == record.current else f"called {', '.join(aliases)}"
            raise Conflict(
                "version_in_use",
                f"{label!r} is {use}, so it stays. Promote another version, or move the alias.",
                model=model.name,
                version=label,
            )
        if any(entry["version"] == label for entry in record.history):
            write_record(model.path, record.without(label))
        place = model.path / label
        if place.is_symlink():
            place.unlink()
            return
        (version.path / MANIFEST).unlink(missing_ok=True)
        sync_folder(version.path)
        hidden = model.path / f"{REMOVED}{label}-{uuid.uuid4().hex[:8]}"
        place.rename(hidden)
        sync_folder(model.path)
    # What cannot be deleted now, sweep() deletes later.
    shutil.rmtree(hidden, ignore_errors=True)


def promote(model: ModelFolder, label: str, *, progress: Progress | None = None) -> ModelRecord:
    """Make ``label`` current on disk, once all of its hashes are right.

    Raises:
        NotFound: ``unknown_version``.
        VersionProblem: it is not complete, or a file is another one.
        StateNotWritten: the disk does not take the change.
    """
    version = model.version(label)
    with _named(label):
        version.manifest().verify(version.path, progress, root=version.root)

    def change(record: ModelRecord) -> ModelRecord:
        _require_complete(model, label)
        return record if record.current == label else record.promoted(label)

    return model.change(change)


def rollback(model: ModelFolder) -> ModelRecord:
    """Make the previous version current on disk.

    Raises:
        Conflict: ``no_previous_version``.
        NotFound: ``unknown_version``: it is gone.
        VersionProblem: it is not complete any more.
        StateNotWritten: the disk does not take the change.
    """

    def change(record: ModelRecord) -> ModelRecord:
        changed = record.rolled_back()
        assert changed.current is not None
        _require_complete(model, changed.current)
        return changed

    return model.change(change)


def _require_complete(model: ModelFolder, label: str) -> None:
    problem = model.version(label).problem
    if problem is not None:
        with _named(label):
            raise problem


@contextlib.contextmanager
def _named(label: str) -> Iterator[None]:
    """A problem with the files of a version, with the version's name."""
    try:
        yield
    except VersionProblem as problem:
        message = f"Version {label!r} cannot become current. {problem.message}"
        raise VersionProblem(problem.code, message, **problem.details) from None
