"""From what a request, the watch or the command line asks for to an :class:`Order`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from service.errors import Conflict, Unprocessable
from service.repository.disk.names import check_name
from service.repository.disk.record import ModelRecord
from service.repository.gate import GateRun
from service.repository.model_settings import Gate
from service.repository.preflight import Strategy
from service.repository.served import ServedModel
from service.repository.shelf import Candidate, Change, FileShelf, FolderShelf
from service.repository.source import ModelSource


@dataclass(frozen=True)
class Order:
    """What is to be done with a version.

    Attributes:
        candidate: the version.
        make_current: it shall answer requests that name none; else it is loaded beside the others.
        dry_run: go as far as the swap, and then let the version go again.
        strategy: "in_place" frees the current version before the new one is loaded; requests wait.
        gate: a validation set to pass.
        allow_class_changes: class ids may change their meaning.
        change: of the record; None records nothing.
    """

    candidate: Candidate
    make_current: bool = True
    dry_run: bool = False
    strategy: Strategy = "side_by_side"
    gate: GateRun | None = None
    allow_class_changes: bool = False
    change: Callable[[ModelRecord], ModelRecord] | None = None


@dataclass(frozen=True)
class Wanted:
    """How a version shall be taken up.

    Attributes:
        root: the folder that paths of ``gate`` must not leave.
        dry_run, strategy, allow_class_changes: as in :class:`Order`.
        gate: a validation set; None is that of the version's ``model.yaml``, False is none.
    """

    root: Path
    dry_run: bool = False
    strategy: Strategy = "side_by_side"
    allow_class_changes: bool = False
    gate: Gate | Literal[False] | None = None


def promotion(model: ServedModel, word: str | None, wanted: Wanted) -> Order:
    """Make a version current: by its label, an alias or another word; None is what the record says.

    Raises:
        NotFound, Unprocessable: there is no such version, or it cannot be loaded.
    """
    shelf = model.shelf
    if word is None and isinstance(shelf, FolderShelf):
        word = shelf.refresh().current or "latest"
    label = shelf.label_of(word) if word is not None else model.current.label
    recorded = shelf.record().current == label
    if wanted.gate is None and model.serves and model.current.label == label:
        wanted = replace(wanted, gate=False)  # nothing will change that its own gate is there for
    return _order(
        shelf.candidate(label),
        wanted,
        change=None if recorded else lambda record: record.promoted(label),
    )


def files(model: ServedModel, source: ModelSource, wanted: Wanted) -> Order:
    """Load files that were named alone, as the next version.

    Raises:
        Unprocessable: ``version_required``: the model comes from a repository.
    """
    shelf = model.shelf
    if not isinstance(shelf, FileShelf):
        raise Unprocessable(
            "version_required",
            f"{model.name!r} comes from a model repository: name a version of it. detserve models add "
            "makes one of config and weights.",
            model=model.name,
        )
    candidate = shelf.next(source)
    return _order(candidate, wanted, change=lambda record: record.promoted(candidate.label))


def loading(model: ServedModel, word: str, wanted: Wanted, *, alias: str | None = None) -> Order:
    """Load a version beside the current one, and call it ``alias`` if that is given.

    Raises:
        NotFound, Unprocessable: there is no such version, or it cannot be loaded; or ``invalid_name``
            of the alias.
        Conflict: ``alias_is_a_version``.
    """
    label = model.shelf.label_of(word)
    if wanted.gate is None and label in model.versions:
        wanted = replace(wanted, gate=False)  # it has passed its own when it was loaded
    if alias is None:
        return _order(model.shelf.candidate(label), wanted, make_current=False)
    check_name("alias", alias)  # before anything is loaded for it
    if alias in model.shelf.labels():
        raise Conflict(
            "alias_is_a_version",
            f"{alias!r} is a version of {model.name!r}; choose another name for the alias.",
        )
    return _order(
        model.shelf.candidate(label),
        wanted,
        make_current=False,
        change=lambda record: record.with_alias(alias, label),
    )


def going_back(model: ServedModel, wanted: Wanted) -> Order:
    """The previous version again, without a gate: what it was good for once.

    Raises:
        Conflict: ``no_previous_version``, or ``record_differs``.
    """
    if isinstance(model.shelf, FolderShelf):
        model.shelf.refresh()
    record = model.shelf.record()
    serving = model.current.label if model.serves and not model.lost else None
    if serving is not None and record.current != serving:
        raise Conflict(
            "record_differs",
            f"The record says that version {record.current} of {model.name!r} is current, but this "
            f"server is on {serving}: another process has changed it, or the start had to "
            "fall back. Promote the version that you want by its name.",
            recorded=record.current,
            current=serving,
        )
    previous = _nearest(model, record)
    # What was loaded when, this process knows best: after a failed start it is on the previous one.
    parked = model.parked
    in_memory = parked is not None and parked.label == previous  # its files need not be there
    return Order(
        Candidate(previous, ModelSource(None, wanted.root))
        if in_memory
        else model.shelf.candidate(previous),
        strategy=wanted.strategy,
        allow_class_changes=True,
        change=lambda record: _back_to(record, previous),
    )


def _nearest(model: ServedModel, record: ModelRecord) -> str:
    """The version before the current one; of those that were deleted by hand the one before.

    Raises:
        Conflict: ``no_previous_version``.
    """
    there = {*model.shelf.labels(), *([model.parked.label] if model.parked is not None else [])}
    back = record.rolled_back()
    while back.current not in there and back.previous is not None:
        back = back.rolled_back()
    assert back.current is not None, "rolled_back() has found one"
    return back.current


def _back_to(record: ModelRecord, label: str) -> ModelRecord:
    """``record`` with ``label`` current, one of those that led to what is current now."""
    back = record
    while back.current != label and back.previous is not None:
        back = back.rolled_back()
    return back if back.current == label else record.promoted(label, "rollback")


def _order(
    candidate: Candidate, wanted: Wanted, *, make_current: bool = True, change: Change | None = None
) -> Order:
    return Order(
        candidate,
        make_current=make_current,
        dry_run=wanted.dry_run,
        strategy=wanted.strategy,
        gate=_gate(candidate, wanted),
        allow_class_changes=wanted.allow_class_changes,
        change=change,
    )


def _gate(candidate: Candidate, wanted: Wanted) -> GateRun | None:
    """The gate that was asked for, or the version's own; its files under their root."""
    if wanted.gate is False:
        return None
    if wanted.gate is not None:
        return GateRun.under(wanted.gate, wanted.root, wanted.root)
    settings, folder = candidate.source.settings, candidate.folder
    if settings is None or settings.gate is None or folder is None:
        return None
    return GateRun.under(settings.gate, folder.path, folder.root)
