"""Versions of a model repository with files of a few bytes, for tests that load none."""

from __future__ import annotations

from pathlib import Path

from service.repository.disk.folder import ModelFolder, RepositoryFolder
from service.repository.disk.manifest import Manifest

FILES = {"config.yaml": b"VERSION: 2\n", "model_final.pth": b"weights"}


def write_files(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    """The files of a version that is not sealed."""
    for name, content in (FILES if files is None else files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_version(
    root: Path, label: str, *, model: str = "shapes", files: dict[str, bytes] | None = None
) -> Path:
    """A complete version of a few bytes; its folder."""
    folder = write_files(root / model / label, files)
    Manifest.of(folder).write(folder)
    return folder


def repository(root: Path, *labels: str, model: str = "shapes") -> ModelFolder:
    """A model with these complete versions."""
    (root / model).mkdir(exist_ok=True)
    for label in labels:
        write_version(root, label, model=model)
    return RepositoryFolder(root).model(model)
