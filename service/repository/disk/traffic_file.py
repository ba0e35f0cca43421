"""``traffic.json`` in a model's folder: the shapes of its traffic, so that a restart knows them too."""

from __future__ import annotations

import logging
from pathlib import Path

from service.inference.traffic import TrafficShapes
from service.repository.disk.atomic_file import write_atomically
from service.repository.disk.regular_files import VersionProblem, open_regular

logger = logging.getLogger(__name__)

FILE_NAME = "traffic.json"
_MAX_BYTES = 1 << 20


def read_traffic(model_folder: Path) -> TrafficShapes:
    """What was written last; nothing where there is none, or it is damaged."""
    try:
        handle = open_regular(model_folder / FILE_NAME, model_folder.resolve(), FILE_NAME)
    except VersionProblem:
        return TrafficShapes()
    with open(handle, "rb") as file:
        return TrafficShapes.from_json(file.read(_MAX_BYTES))


def write_traffic(model_folder: Path, traffic: TrafficShapes) -> None:
    """Keep ``traffic``; a disk that is full or read-only costs a line in the log, no more."""
    if not traffic.most_common(1):
        return
    try:
        write_atomically(model_folder / FILE_NAME, traffic.to_json().encode())
    except OSError as error:
        logger.warning("the shapes of traffic were not kept: %s", error.strerror)
