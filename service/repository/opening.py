"""The start of a model from its folder: what was current serves again, or what comes next to it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import replace

from models.errors import ModelError
from service.errors import ApiError
from service.repository.disk.adding import sweep
from service.repository.disk.record import ModelRecord, record_lock
from service.repository.disk.traffic_file import read_traffic
from service.repository.house import House
from service.repository.jobs import ReloadJob
from service.repository.orders import Order
from service.repository.served import ServedModel
from service.repository.shelf import FolderShelf
from service.repository.swap import Swap
from service.repository.version import VersionState

logger = logging.getLogger(__name__)


def open_model(model: ServedModel, shelf: FolderShelf, house: House) -> None:
    """Load the current version of ``model`` and those with an alias; blocks.

    Without a record the newest complete version becomes current. Instead of a current one that cannot
    be loaded any more serves the one before it, else any that can; the record stays, and the log, the
    version's state and ``recorded`` in ``GET /models`` tell. A model without versions waits for one.

    Raises:
        ModelError, ApiError: there are versions, and none of them can be served.
    """
    with contextlib.suppress(ApiError), record_lock(shelf.folder.path):
        sweep(shelf.folder)  # unless the disk is read-only, or another process is at it
    model.traffic = read_traffic(shelf.folder.path)
    record = shelf.record()
    if record.current is None:
        _begin(model, shelf, house)
        return
    _go_on(model, shelf, house, record)
    for alias, label in sorted(record.aliases.items()):
        if label in model.versions:
            continue
        try:
            start_up(model, Order(shelf.candidate(label), make_current=False), house)
        except (ModelError, ApiError) as error:
            model.mark(label, VersionState.FAILED, str(error))
            logger.error(
                "%s: version %s, the alias %s, is not served: %s", model.name, label, alias, error
            )


def start_up(model: ServedModel, order: Order, house: House) -> None:
    """Do what ``order`` says, at once. Raises whatever refuses the version."""
    Swap(model, order, ReloadJob(model.name), house).run()


def _begin(model: ServedModel, shelf: FolderShelf, house: House) -> None:
    """Nothing is recorded yet."""
    newest = shelf.folder.newest_complete()
    if newest is None:
        logger.warning("%s has no complete version yet", model.name)
        return
    label = newest.label
    with _naming(model, label):
        order = Order(shelf.candidate(label), change=lambda record: record.promoted(label, "start"))
        if not os.access(shelf.folder.path, os.W_OK):
            logger.warning(
                "%s: the folder is read-only, so it is not recorded that %s is current",
                model.name, label,
            )  # fmt: skip
            order = replace(order, change=None)
        start_up(model, order, house)


def _go_on(model: ServedModel, shelf: FolderShelf, house: House, record: ModelRecord) -> None:
    """The recorded version, or if that has been damaged another one."""
    assert record.current is not None, "asked before"
    try:
        with _naming(model, record.current):
            start_up(model, Order(shelf.candidate(record.current)), house)
        return
    except (ModelError, ApiError) as error:
        refused = error
    model.mark(record.current, VersionState.FAILED, str(refused))
    for label in _others(shelf, record):
        logger.critical(
            "%s: the current version %s cannot be served (%s); going on with version %s",
            model.name, record.current, refused, label,
        )  # fmt: skip
        try:
            start_up(model, Order(shelf.candidate(label)), house)
            return
        except (ModelError, ApiError) as error:
            model.mark(label, VersionState.FAILED, str(error))
            logger.error("%s: version %s cannot be served either: %s", model.name, label, error)
    raise refused


def _others(shelf: FolderShelf, record: ModelRecord) -> list[str]:
    """Complete versions besides the current one: what was current before, the latest first, then what
    was not."""
    complete = [version.label for version in reversed(shelf.folder.versions()) if version.complete]
    been = [label for label in reversed(record.line()) if label in complete]
    first = [record.previous] if record.previous in complete else []
    ordered = dict.fromkeys([*first, *been, *complete])
    return [label for label in ordered if label is not None and label != record.current]


@contextlib.contextmanager
def _naming(model: ServedModel, label: str) -> Iterator[None]:
    """What is raised says of which version it speaks."""
    try:
        yield
    except (ModelError, ApiError) as error:
        error.message = f"{model.name}, version {label}: {error.message}"
        error.args = (error.message,)
        raise
