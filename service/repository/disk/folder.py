"""The model repository on disk: a folder for each model, and in it one for each version.

Reading alone, and what is recorded; :mod:`service.repository.disk.adding` puts versions there. Everything
lies under the real root: what a symlink leads out to is refused.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.errors import Conflict, NotFound, Unavailable, Unprocessable
from service.repository.disk.manifest import (
    CONFIG,
    GOLDEN,
    LABELS,
    MODEL_YAML,
    Manifest,
    weights_names,
)
from service.repository.disk.names import check_name, is_name, natural_key
from service.repository.disk.record import ModelRecord, change_record, read_record
from service.repository.disk.regular_files import VersionProblem, resolve_inside


@dataclass(frozen=True)
class VersionFolder:
    """One version on disk, complete or not.

    Attributes:
        label: its name.
        path: its real folder.
        root: the real root of the repository.
    """

    label: str
    path: Path
    root: Path

    @property
    def problem(self) -> VersionProblem | None:
        """Why it is not complete, from the manifest and the sizes; no content is read."""
        try:
            self.manifest().check_sizes(self.path, root=self.root)
            self._weights_name()
        except VersionProblem as problem:
            return problem
        return None

    @property
    def complete(self) -> bool:
        """Whether the manifest is there and all sizes agree with it; loading verifies the hashes."""
        return self.problem is None

    def manifest(self) -> Manifest:
        """Its manifest. Raises :class:`VersionProblem`: ``version_incomplete``."""
        return Manifest.read(self.path, root=self.root)

    @property
    def weights(self) -> Path:
        """The one weights file at its top.

        Raises:
            VersionProblem: ``file_missing`` or ``several_weights``.
        """
        return self.path / self._weights_name()

    @property
    def config(self) -> Path | None:
        """``config.yaml``; None where there is none, as for torchvision's own weights."""
        return self._optional(CONFIG)

    @property
    def labels(self) -> Path | None:
        """``labels.txt``, if there is one."""
        return self._optional(LABELS)

    @property
    def model_yaml(self) -> Path | None:
        """``model.yaml``, if there is one."""
        return self._optional(MODEL_YAML)

    @property
    def golden(self) -> Path | None:
        """``golden.json``, if there is one; its pictures are in ``golden/`` beside it."""
        return self._optional(GOLDEN)

    @property
    def size_bytes(self) -> int:
        """Size of its files together: as the manifest says, else of what is there."""
        try:
            return self.manifest().size_bytes
        except VersionProblem:
            with contextlib.suppress(FileNotFoundError):  # it is being copied, or removed
                return sum(path.lstat().st_size for path in self.path.rglob("*"))
            return 0

    def _optional(self, name: str) -> Path | None:
        path = self.path / name
        return path if os.path.lexists(path) else None

    def _weights_name(self) -> str:
        names = weights_names(self.path)
        if not names:
            raise VersionProblem(
                "file_missing",
                "It has no weights file: .pth, .pkl, .pt or .safetensors, at the top of its folder.",
            )
        if len(names) > 1:
            raise VersionProblem(
                "several_weights",
                f"It has {len(names)} weights files, {', '.join(names[:5])}; a version has one.",
                files=names,
            )
        return names[0]


@dataclass(frozen=True)
class ModelFolder:
    """One model on disk.

    Attributes:
        name: its name.
        path: its real folder.
        root: the real root of the repository.
    """

    name: str
    path: Path
    root: Path

    def versions(self) -> list[VersionFolder]:
        """All versions in their natural order; what cannot be one by its name or kind is left out."""
        found = [
            VersionFolder(label, real, self.root)
            for label in _names_in(self.path)
            if is_name(label) and (real := _folder_inside(self.path / label, self.root))
        ]
        return sorted(found, key=lambda version: natural_key(version.label))

    def version(self, label: str) -> VersionFolder:
        """The version called ``label``, complete or not; no aliases here: see :meth:`resolve`.

        Raises:
            Unprocessable: ``invalid_name``.
            NotFound: ``unknown_version``.
            VersionProblem: ``path_outside_root``.
        """
        check_name("version", label)
        path = self.path / label
        real = resolve_inside(path, self.root, label) if os.path.lexists(path) else None
        if real is None or not real.is_dir():
            known = [version.label for version in self.versions()]
            raise NotFound(
                "unknown_version",
                f"{self.name!r} has no version {label!r}; there are: {', '.join(known) or 'none'}.",
                model=self.name,
                versions=known,
            )
        return VersionFolder(label, real, self.root)

    def resolve(self, word: str) -> str:
        """The label of a version that is named by it, by an alias, or as latest, current or previous.

        ``latest`` is the last complete one in natural order. The version need not be there.

        Raises:
            NotFound: ``unknown_version``: nothing is latest, current or previous.
        """
        record = self.record()
        if word == "latest":
            newest = self.newest_complete()
            label = newest.label if newest else None
        elif word in ("current", "previous"):
            label = record.current if word == "current" else record.previous
        else:
            return record.aliases.get(word, word)
        if label is None:
            raise NotFound(
                "unknown_version", f"{self.name!r} has no {word} version.", model=self.name
            )
        return label

    def newest_complete(self) -> VersionFolder | None:
        """The last version in natural order that is complete; None if none is."""
        return next((v for v in reversed(self.versions()) if v.complete), None)

    def record(self) -> ModelRecord:
        """What is recorded; see :func:`~service.repository.record.read_record`."""
        return read_record(self.path)

    def change(self, change: Callable[[ModelRecord], ModelRecord]) -> ModelRecord:
        """Change what is recorded; see :func:`~service.repository.record.change_record`."""
        return change_record(self.path, change)

    def set_alias(self, alias: str, label: str) -> ModelRecord:
        """Call the version ``label`` by ``alias`` too, whatever that stood for before.

        Raises:
            Unprocessable: ``invalid_name``.
            NotFound: ``unknown_version``.
            Conflict: ``alias_is_a_version``.
        """
        check_name("alias", alias)

        def change(record: ModelRecord) -> ModelRecord:
            self.version(label)
            if os.path.lexists(self.path / alias):
                raise Conflict(
                    "alias_is_a_version",
                    f"{alias!r} is a version of {self.name!r}; choose another name for the alias.",
                )
            return record.with_alias(alias, label)

        return self.change(change)


class RepositoryFolder:
    """All models on disk.

    Attributes:
        root: the real root.
    """

    def __init__(self, root: Path) -> None:
        """Raises :class:`Unprocessable`: ``invalid_repository``, if ``root`` is no folder."""
        if not root.is_dir():
            raise Unprocessable(
                "invalid_repository",
                f"There is no folder {str(root)!r}; a model repository is one with a folder for each "
                "model.",
            )
        self.root = root.resolve()

    def models(self) -> list[str]:
        """Names of all models, sorted; what cannot be one by its name or kind is left out."""
        names = [
            name
            for name in _names_in(self.root)
            if is_name(name) and _folder_inside(self.root / name, self.root)
        ]
        return sorted(names, key=natural_key)

    def model(self, name: str) -> ModelFolder:
        """The model called ``name``.

        Raises:
            Unprocessable: ``invalid_name``.
            NotFound: ``unknown_model``.
            VersionProblem: ``path_outside_root``.
        """
        check_name("model", name)
        path = self.root / name
        real = resolve_inside(path, self.root, name) if os.path.lexists(path) else None
        if real is None or not real.is_dir():
            known = self.models()
            raise NotFound(
                "unknown_model",
                f"There is no model {name!r}; there are: {', '.join(known) or 'none'}.",
                models=known,
            )
        return ModelFolder(name, real, self.root)

    def create_model(self, name: str) -> ModelFolder:
        """The model called ``name``, made if it is not there.

        Raises:
            Unprocessable: ``invalid_name``, or ``not_writable`` when it cannot be made.
            VersionProblem: ``path_outside_root``.
        """
        check_name("model", name)
        try:
            (self.root / name).mkdir(exist_ok=True)
        except OSError as error:
            raise Unprocessable(
                "not_writable", f"A folder for {name!r} cannot be made: {error.strerror}."
            ) from None
        return self.model(name)


def _names_in(folder: Path) -> list[str]:
    """What lies in a folder that was there before.

    Raises:
        Unavailable: ``repository_unreadable``: it is gone, as when a mount is lost.
    """
    try:
        return os.listdir(folder)
    except OSError as error:
        raise Unavailable(
            "repository_unreadable",
            f"The folder {folder.name!r} of the model repository cannot be read: {error.strerror}. What "
            "is loaded goes on.",
        ) from None


def _folder_inside(path: Path, root: Path) -> Path | None:
    """The real folder behind ``path``; None if it is none, or lies elsewhere."""
    try:
        real = resolve_inside(path, root, path.name)
    except VersionProblem:
        return None
    return real if real.is_dir() else None
