"""What is current, previous and called how: ``state.json`` in a model's folder.

It is replaced as a whole, under a lock that several processes share, so that a crash at any point
leaves the old record or the new one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypedDict

from service.errors import ApiError, Conflict, InternalError, NotFound
from service.repository.disk.atomic_file import write_atomically
from service.repository.disk.names import check_name, is_name
from service.repository.disk.regular_files import VersionProblem, open_regular

STATE, LOCK = "state.json", ".lock"
FORMAT = 1
KEPT_HISTORY = 50
LOCK_TIMEOUT_S = 10.0

_LOCK_POLL_S = 0.02
_MAX_BYTES = 1 << 20


class StateNotWritten(ApiError):
    """The record cannot be written, as with a full or read-only disk; the old one stays."""

    status = 507


class StateDamaged(InternalError):
    """``state.json`` is not what was written; nobody can tell what is current."""


class HistoryEntry(TypedDict):
    """What was done: the version that it made current, when (ISO 8601, UTC), and how."""

    version: str
    at: str
    action: str


@dataclass(frozen=True)
class ModelRecord:
    """What is recorded of a model; all versions by their labels.

    Attributes:
        current: what serves; None before the first.
        previous: what a rollback goes back to.
        aliases: versions by other names, such as ``stable``.
        history: what was done, the oldest first, the last 50.
        since: when a version first became current, ISO 8601 in UTC.
    """

    current: str | None = None
    previous: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    history: tuple[HistoryEntry, ...] = ()
    since: str | None = None

    def promoted(self, label: str, action: str = "promote") -> Self:
        """With ``label`` current, and what was current before as the previous one."""
        previous = self.previous if label == self.current else self.current
        history = self._extended(label, action)
        return dataclasses.replace(
            self,
            current=label,
            previous=previous,
            history=history,
            since=self.since or history[0]["at"],
        )

    def rolled_back(self) -> Self:
        """With the previous version current, and as the previous one what was current before that.

        So who rolls back a second time, since two people do at once, never gets the version again that
        the first one left. To go forward, promote it by its name.

        Raises:
            Conflict: ``no_previous_version``.
        """
        if self.previous is None:
            raise Conflict(
                "no_previous_version",
                "There is no previous version to go back to; promote one by its name.",
            )
        line = self.line()
        place = line.index(self.previous) if self.previous in line else 0
        return dataclasses.replace(
            self,
            current=self.previous,
            previous=line[place - 1] if place > 0 else None,
            history=self._extended(self.previous, "rollback"),
        )

    def line(self) -> list[str]:
        """The versions that led to the current one, the oldest first: what was rolled back is left out."""
        line: list[str] = []
        for entry in self.history:
            version = entry["version"]
            if entry["action"] == "remove":
                line = [label for label in line if label != version]
            elif entry["action"] == "rollback" and version in line:
                del line[line.index(version) + 1 :]
            else:
                line = [label for label in line if label != version] + [version]
        return line

    def without(self, label: str) -> Self:
        """After the version ``label``, which is not the current one, was removed."""
        changed = dataclasses.replace(self, history=self._extended(label, "remove"))
        if label != self.previous:
            return changed
        line = [one for one in changed.line() if one != self.current]
        return dataclasses.replace(changed, previous=line[-1] if line else None)

    def with_alias(self, alias: str, label: str) -> Self:
        """With ``alias`` for ``label``. Raises ``invalid_name`` (:class:`Unprocessable`)."""
        check_name("alias", alias)
        return dataclasses.replace(self, aliases={**self.aliases, alias: label})

    def without_alias(self, alias: str) -> Self:
        """Without ``alias``.

        Raises:
            NotFound: ``unknown_alias``.
        """
        if alias not in self.aliases:
            known = ", ".join(sorted(self.aliases)) or "none"
            raise NotFound("unknown_alias", f"There is no alias {alias!r}; there are: {known}.")
        return dataclasses.replace(
            self, aliases={name: v for name, v in self.aliases.items() if name != alias}
        )

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-serialisable data."""
        return {
            "current": self.current,
            "previous": self.previous,
            "aliases": dict(self.aliases),
            "history": list(self.history),
            "since": self.since,
        }

    def _extended(self, label: str, action: str) -> tuple[HistoryEntry, ...]:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        entry = HistoryEntry(version=label, at=at, action=action)
        return (*self.history, entry)[-KEPT_HISTORY:]


def read_record(model_folder: Path) -> ModelRecord:
    """What is recorded in ``model_folder``; nothing yet is an empty record.

    Raises:
        StateDamaged: ``state_damaged``.
    """
    try:
        handle = open_regular(model_folder / STATE, model_folder.resolve(), STATE)
    except VersionProblem as problem:
        if problem.code == "file_missing" and not os.path.lexists(model_folder / STATE):
            return ModelRecord()
        raise _damaged(model_folder, problem.message) from None
    with os.fdopen(handle, "rb") as file:
        content = file.read(_MAX_BYTES + 1)
    try:
        return _parse(json.loads(content[:_MAX_BYTES]))
    except (ValueError, RecursionError) as error:
        reason = "It is no JSON." if isinstance(error, json.JSONDecodeError) else str(error)
        raise _damaged(model_folder, reason) from None


def change_record(model_folder: Path, change: Callable[[ModelRecord], ModelRecord]) -> ModelRecord:
    """Replace the record of ``model_folder`` by what ``change`` makes of it, and return that.

    ``change`` runs under the lock: what it checks stays so until the record is written. What it
    raises leaves the record as it is.

    Raises:
        StateNotWritten: ``state_not_written``; the old record stays.
        StateDamaged: the old record cannot be read.
        Conflict: ``state_locked``: another process holds the lock for too long.
    """
    with record_lock(model_folder):
        record = read_record(model_folder)
        changed = change(record)
        if changed != record:
            write_record(model_folder, changed)
        return changed


@contextlib.contextmanager
def record_lock(model_folder: Path) -> Iterator[None]:
    """Keep all other writers out of ``model_folder``; not to be nested.

    Raises:
        StateNotWritten: the lock's file cannot be made.
        Conflict: ``state_locked``: another process holds the lock for too long.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(model_folder / LOCK, flags, 0o644)
    except OSError as error:
        raise _not_written(model_folder, error) from None
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Conflict(
                        "state_locked",
                        f"Another process is changing {model_folder.name!r}. Try again soon.",
                    ) from None
                time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(handle)  # and the lock with it


def write_record(model_folder: Path, record: ModelRecord) -> None:
    """Write ``record``; the caller holds the lock. Most want :func:`change_record`.

    Raises:
        StateNotWritten: ``state_not_written``; the old record stays.
    """
    content = json.dumps({"format": FORMAT, **record.to_dict()}, indent=1).encode()
    try:
        write_atomically(model_folder / STATE, content)
    except OSError as error:
        raise _not_written(model_folder, error) from None


def _parse(value: Any) -> ModelRecord:
    if not isinstance(value, dict):
        raise ValueError("It is no JSON object.")
    if value.get("format") != FORMAT:
        raise ValueError(f"Its format is not {FORMAT}: another release of detserve wrote it.")
    current, previous = value.get("current"), value.get("previous")
    aliases, history = value.get("aliases"), value.get("history")
    if not all(label is None or _is_label(label) for label in (current, previous)):
        raise ValueError("It names a version that cannot be one.")
    if not isinstance(aliases, dict) or not all(
        _is_label(alias) and _is_label(label) for alias, label in aliases.items()
    ):
        raise ValueError("Its aliases are not names of versions.")
    if not isinstance(history, list) or not all(_is_entry(entry) for entry in history):
        raise ValueError("Its history is not one.")
    kept = tuple(
        HistoryEntry(version=e["version"], at=e["at"], action=e["action"]) for e in history
    )
    since = value.get("since", kept[0]["at"] if kept else None)
    if since is not None and not isinstance(since, str):
        raise ValueError("It does not say since when.")
    return ModelRecord(current, previous, aliases, kept[-KEPT_HISTORY:], since)


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and is_name(value)


def _is_entry(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(key), str) for key in ("version", "at", "action")
    )


def _damaged(model_folder: Path, reason: str) -> StateDamaged:
    return StateDamaged(
        "state_damaged",
        f"The record {STATE} of {model_folder.name!r} cannot be used. {reason} Put it back from a "
        "backup, or delete it and promote the version that shall serve.",
        model=model_folder.name,
    )


def _not_written(model_folder: Path, error: OSError) -> StateNotWritten:
    return StateNotWritten(
        "state_not_written",
        f"The record {STATE} of {model_folder.name!r} cannot be written: {error.strerror}. What was "
        "current stays so.",
        model=model_folder.name,
        reason=error.strerror,
    )
