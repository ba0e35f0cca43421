"""Putting versions into the repository on disk: never a half one that counts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from service.errors import Conflict, Unprocessable
from service.repository.disk.atomic_file import sync_folder
from service.repository.disk.copying import copy_config, copy_file, copy_pictures
from service.repository.disk.disk_errors import writing
from service.repository.disk.folder import ModelFolder, VersionFolder
from service.repository.disk.manifest import (
    CONFIG,
    GOLDEN,
    KEYPOINTS,
    LABELS,
    MANIFEST,
    MODEL_YAML,
    STUFF_LABELS,
    WEIGHTS_SUFFIXES,
    Manifest,
    Progress,
    check_regular,
    file_names,
)
from service.repository.disk.names import check_name
from service.repository.disk.record import read_record, record_lock

STAGING, REMOVED = ".staging-", ".removed-"
GOLDEN_FOLDER = "golden"


def add_version(
    model: ModelFolder,
    label: str | None,
    *,
    weights: Path,
    config: Path | None = None,
    labels: Path | None = None,
    stuff_labels: Path | None = None,
    keypoints: Path | None = None,
    model_yaml: Path | None = None,
    golden: Path | None = None,
    progress: Progress | None = None,
) -> VersionFolder:
    """Copy files into a new version, which is there once all of it is checked and complete.

    Args:
        label: its name; None: the number after the highest there is or was.
        weights: the checkpoint; it is called ``model_final`` there.
        config: None for the zoo's (in ``model_yaml``) and torchvision's own. What it builds on with
            ``_BASE_`` is written into it.
        labels, stuff_labels, keypoints, model_yaml: optional files.
        golden: a ``golden.json``, whose pictures are in ``golden/`` beside it.
        progress: is told of the bytes that are copied, and of those that are hashed.

    Raises:
        ModelError: the files make no model.
        Unprocessable: ``invalid_name``, or ``unreadable_file`` of one that is to be copied.
        Conflict: ``version_exists``.
        VersionNotWritten: the disk does not take it.
    """
    if label is not None:
        check_free(model, label)
    suffix = weights.suffix.lower()
    if suffix not in WEIGHTS_SUFFIXES:
        raise Unprocessable(
            "invalid_file_name",
            f"{weights.name} is no weights file by its name; they end in "
            f"{', '.join(sorted(WEIGHTS_SUFFIXES))}.",
        )
    with staging(model) as staged, writing():
        copy_file(weights, staged / f"model_final{suffix}", progress)
        if config is not None:
            copy_config(config, staged / CONFIG, progress)
        for source, name in (
            (labels, LABELS),
            (stuff_labels, STUFF_LABELS),
            (keypoints, KEYPOINTS),
            (model_yaml, MODEL_YAML),
            (golden, GOLDEN),
        ):
            if source is not None:
                copy_file(source, staged / name, progress)
        if golden is not None:
            copy_pictures(golden.parent / GOLDEN_FOLDER, staged / GOLDEN_FOLDER, progress)
        return finish_version(model, staged, label, progress=progress)


def finish_version(
    model: ModelFolder, staged: Path, label: str | None, *, progress: Progress | None = None
) -> VersionFolder:
    """Check a hidden folder beside the versions, write its manifest, and make it a version.

    Args:
        staged: a folder in the model's, with all files in place; it is renamed.
        label: as for :func:`add_version`.
        progress: is told of the bytes that are hashed.

    Raises:
        ModelError: the files make no model.
        VersionProblem: a file is not a regular one, or leads out of the folder.
        Conflict: ``version_exists``.
        VersionNotWritten: the disk does not take it.
    """
    _complete(VersionFolder(label or "new", staged.resolve(), staged.resolve()), progress)
    with writing(), record_lock(model.path):
        if label is None:
            label = _next_label(model)
        check_free(model, label)
        staged.rename(model.path / label)
        sync_folder(model.path)
    return model.version(label)


def seal_version(
    model: ModelFolder, label: str, *, progress: Progress | None = None
) -> VersionFolder:
    """Check a version that somebody has copied into place, and write its manifest.

    Raises:
        ModelError: the files make no model.
        NotFound: ``unknown_version``.
        Conflict: ``version_sealed``: it has a manifest.
        VersionProblem: a file is not a regular one, or leads out of the root.
        VersionNotWritten: the disk does not take the manifest.
    """
    version = model.version(label)
    if os.path.lexists(version.path / MANIFEST):
        raise Conflict(
            "version_sealed",
            f"{label!r} has its {MANIFEST} already, and versions are immutable; add another.",
        )
    _complete(version, progress)
    return version


def check_free(model: ModelFolder, label: str) -> None:
    """Whether a new version may be called ``label``.

    Raises:
        Unprocessable: ``invalid_name``.
        Conflict: ``version_exists``, or ``alias_exists``.
    """
    check_name("version", label)
    if os.path.lexists(model.path / label):
        raise Conflict(
            "version_exists",
            f"{model.name!r} has a version {label!r}, and versions are immutable; choose another name.",
            model=model.name,
            version=label,
        )
    if label in read_record(model.path).aliases:
        raise Conflict(
            "alias_exists",
            f"{label!r} is an alias of {model.name!r}; choose another name for the version.",
            model=model.name,
            alias=label,
        )


@contextlib.contextmanager
def staging(model: ModelFolder) -> Iterator[Path]:
    """A new hidden folder in the model's, deleted at the end unless it was renamed.

    As long as it is in use it is locked, so that :func:`sweep` knows those of processes that died.

    Raises:
        VersionNotWritten: it cannot be made.
    """
    with writing(), record_lock(model.path):
        sweep(model)
        folder = model.path / f"{STAGING}{uuid.uuid4().hex[:12]}"
        folder.mkdir()
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def sweep(model: ModelFolder) -> None:
    """Delete what crashed processes have left of adding and removing; the caller holds the lock."""
    for name in os.listdir(model.path):
        if name.startswith(REMOVED) or (
            name.startswith(STAGING) and _is_abandoned(model.path / name)
        ):
            shutil.rmtree(model.path / name, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False  # gone meanwhile, or no folder of ours
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _complete(version: VersionFolder, progress: Progress | None) -> None:
    """Check the files, and make them last; the manifest comes when all else is on disk."""
    # Imported here: whoever lists or promotes does not wait for PyTorch.
    from service.repository.disk.contents import check_contents

    check_regular(version.path, root=version.root)
    check_contents(version)
    manifest = Manifest.of(version.path, progress, root=version.root)
    with writing():
        _sync_files(version.path)
        manifest.write(version.path)


def _sync_files(folder: Path) -> None:
    names = file_names(folder)
    for name in names:
        handle = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    for parent in {(folder / name).parent for name in names}:
        sync_folder(parent)


def _next_label(model: ModelFolder) -> str:
    """The number after the highest that is in use or was, so that a number means one version."""
    record = read_record(model.path)
    labels = [*os.listdir(model.path), *(entry["version"] for entry in record.history)]
    numbers = [int(label) for label in labels if label.isascii() and label.isdecimal()]
    return str(max(numbers, default=0) + 1)
