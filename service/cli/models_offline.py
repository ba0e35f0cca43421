"""``detserve models`` on the folder of a repository; a server need not run, and one that does is not
told."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.cli.models_tables import (
    bytes_bar,
    console,
    fail,
    print_json,
    say,
    size_text,
    versions_table,
)
from service.errors import ApiError
from service.repository.disk.changing import promote, remove_version, rollback
from service.repository.disk.folder import ModelFolder, RepositoryFolder, VersionFolder
from service.repository.disk.manifest import KEYPOINTS, LABELS, STUFF_LABELS, file_names
from service.repository.disk.names import check_name
from service.repository.disk.record import ModelRecord, StateDamaged

REFUSED, WRONG_USE = 1, 2

_SIDECARS = {"labels": LABELS, "stuff_labels": STUFF_LABELS, "keypoints": KEYPOINTS}
_COLUMNS = ("model", "version", "current", "aliases", "size", "added", "problem")
_NOT_TOLD = "A running server takes it up when it is told: detserve models promote --url."


@dataclass(frozen=True)
class NewVersion:
    """The files that are added; paths of the operator's."""

    weights: Path | None = None
    config: Path | None = None
    labels: Path | None = None
    model_yaml: Path | None = None
    golden: Path | None = None
    stuff_labels: Path | None = None
    keypoints: Path | None = None

    @property
    def given(self) -> list[Path]:
        """Those that were named."""
        named = (getattr(self, field.name) for field in dataclasses.fields(self))
        return [file for file in named if file is not None]

    def with_sidecars(self) -> NewVersion:
        """The files of names that lie beside the config go along, as they would be served with it."""
        beside = self.config or self.weights
        if beside is None:
            return self
        found = {
            field: beside.parent / name
            for field, name in _SIDECARS.items()
            if getattr(self, field) is None and (beside.parent / name).is_file()
        }
        return dataclasses.replace(self, **found)


def told(action: Callable[[], int]) -> int:
    """Run ``action``; what it raises for the operator becomes one sentence and the exit code."""
    try:
        return action()
    except ApiError as error:
        wrong = error.code in ("invalid_name", "invalid_repository")
        return fail(error.message, WRONG_USE if wrong else REFUSED)
    except OSError as error:
        return fail(f"{error.filename or 'The repository'} cannot be used: {error.strerror}.")


def list_models(root: Path, name: str | None, *, as_json: bool) -> int:
    """All versions of all models, or of one."""

    def action() -> int:
        repository = RepositoryFolder(root)
        names = [name] if name is not None else repository.models()
        models = [_described(repository.model(each)) for each in names]
        damaged = [model["error"] for model in models if model["error"]]
        if as_json:
            print_json({"models": models})
        elif not any(model["versions"] for model in models):
            say("No versions yet; detserve models add makes one.")
        else:
            rows = [
                {"model": model["name"], **version, "size": size_text(version["size_bytes"])}
                for model in models
                for version in model["versions"]
            ]
            console().print(versions_table(_COLUMNS, rows))
        for message in damaged:
            fail(message)
        return REFUSED if damaged else 0

    return told(action)


def add(
    root: Path, name: str, label: str | None, files: NewVersion, *, plugins: Sequence[Path] = ()
) -> int:
    """Copy files into a new version, or seal the folder of one that was copied by hand."""
    from models.errors import ModelError
    from service.plugins import import_plugins, split_paths
    from service.repository.disk.adding import add_version, seal_version

    def action() -> int:
        import_plugins(split_paths(plugins))
        version: VersionFolder
        if files.weights is not None:
            check_name("model", name)
            total = 2 * _size(files.given)  # copied, and hashed
            model = RepositoryFolder(root).create_model(name)
            with bytes_bar(total) as progress:
                version = add_version(
                    model,
                    label,
                    weights=files.weights,
                    config=files.config,
                    labels=files.labels,
                    stuff_labels=files.stuff_labels,
                    keypoints=files.keypoints,
                    model_yaml=files.model_yaml,
                    golden=files.golden,
                    progress=progress,
                )
        else:
            model = RepositoryFolder(root).model(name)
            assert label is not None, "the command line has seen to it"
            folder = model.version(label).path
            with bytes_bar(_size(folder / file for file in file_names(folder))) as progress:
                version = seal_version(model, label, progress=progress)
        manifest = version.manifest()
        say(
            f"{model.name} {version.label} is complete: {len(manifest.files)} files, "
            f"{size_text(manifest.size_bytes)}, {manifest.digest[:12]}."
        )
        return 0

    try:
        return told(action)
    except ModelError as error:
        return fail(error.message)


def promote_version(root: Path, name: str, word: str) -> int:
    """Make a version current, once its hashes are right."""

    def action() -> int:
        model = RepositoryFolder(root).model(name)
        label = model.resolve(word)
        with bytes_bar(model.version(label).size_bytes) as progress:
            record = promote(model, label, progress=progress)
        _say_current(model, record)
        return 0

    return told(action)


def go_back(root: Path, name: str) -> int:
    """Make the previous version current again."""

    def action() -> int:
        model = RepositoryFolder(root).model(name)
        _say_current(model, rollback(model))
        return 0

    return told(action)


def remove(root: Path, name: str, label: str) -> int:
    """Delete a version."""

    def action() -> int:
        model = RepositoryFolder(root).model(name)
        remove_version(model, label)
        say(f"{model.name} {label} is removed.")
        return 0

    return told(action)


def _say_current(model: ModelFolder, record: ModelRecord) -> None:
    previous = f"; previous is {record.previous}" if record.previous else ""
    say(f"{model.name}: {record.current} is current{previous}. {_NOT_TOLD}")


def _described(model: ModelFolder) -> dict[str, Any]:
    """A model with its versions, for programs and for the table."""
    error = None
    try:
        record = model.record()
    except StateDamaged as damaged:
        record, error = ModelRecord(), damaged.message
    return {
        "name": model.name,
        **record.to_dict(),
        "versions": [_version(version, record) for version in model.versions()],
        "error": error,
    }


def _version(version: VersionFolder, record: ModelRecord) -> dict[str, Any]:
    problem = version.problem
    manifest = version.manifest() if problem is None else None
    return {
        "version": version.label,
        "current": version.label == record.current,
        "aliases": sorted(a for a, label in record.aliases.items() if label == version.label),
        "complete": problem is None,
        "problem": problem.message if problem is not None else None,
        "size_bytes": version.size_bytes,
        "added": manifest.created_at if manifest is not None else None,
        "digest": manifest.digest if manifest is not None else None,
    }


def _size(files: Iterable[Path]) -> int:
    return sum(os.stat(file).st_size for file in files)
