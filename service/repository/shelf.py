"""Where the versions of a model come from, and where it is kept which of them is current.

A :class:`FolderShelf` is a folder of a model repository: versions have names, files have hashes, and
the choice is on disk. A :class:`FileShelf` is what ``--config`` and ``--weights`` name: a version is
whatever these files held when they were loaded, and the choice lives as long as the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from models import zoo
from models.zoo import ZooModel
from service.errors import NotFound, Unprocessable
from service.inference.detector import Detector
from service.repository.disk.folder import ModelFolder, VersionFolder
from service.repository.disk.manifest import Manifest
from service.repository.disk.names import natural_key
from service.repository.disk.record import ModelRecord
from service.repository.disk.weights_file import FileStamp, check_file, check_unchanged
from service.repository.model_settings import ModelSettings
from service.repository.source import ModelSource
from service.repository.version import ModelVersion

Progress = Callable[[int, int], None]
Change = Callable[[ModelRecord], ModelRecord]


@dataclass(frozen=True)
class Candidate:
    """A version that may be loaded.

    Attributes:
        label: its name.
        source: its files.
        sha256: what its weights must be; None where nobody knows before they are read.
        folder: with its golden answers and manifest; None for files that were named alone.
    """

    label: str
    source: ModelSource
    sha256: str | None = None
    folder: VersionFolder | None = None

    @property
    def files(self) -> str | None:
        """Identifies all of its files, by their manifest; None where they were named alone."""
        return self.folder.manifest().digest if self.folder is not None else None


class Shelf(Protocol):
    """The versions of one model."""

    def record(self) -> ModelRecord:
        """What is current, as this process knows it."""

    def change(self, change: Change) -> ModelRecord:
        """Change what is current; nothing has changed when it raises."""

    def candidate(self, label: str) -> Candidate:
        """The version ``label``. Raises an :class:`ApiError` if it cannot be loaded."""

    def label_of(self, word: str) -> str:
        """The label that a label, an alias or a word such as ``previous`` stands for.

        Raises:
            NotFound: ``unknown_version``.
        """

    def labels(self) -> list[str]:
        """Of all versions that there are, in order."""

    def check_before(self, candidate: Candidate, progress: Progress) -> Callable[[Detector], None]:
        """Check the files before anybody loads them; the answer checks what was loaded of them.

        Raises:
            ApiError: they cannot be what is to be loaded.
        """


class FolderShelf:
    """The versions in one folder of a model repository."""

    def __init__(self, folder: ModelFolder) -> None:
        self.folder = folder
        self._record = folder.record()

    def record(self) -> ModelRecord:
        """See :class:`Shelf`."""
        return self._record

    def refresh(self) -> ModelRecord:
        """Read the record again: another process may have changed it."""
        self._record = self.folder.record()
        return self._record

    def change(self, change: Change) -> ModelRecord:
        """See :class:`Shelf`."""
        self._record = self.folder.change(change)
        return self._record

    def candidate(self, label: str) -> Candidate:
        """See :class:`Shelf`."""
        version = self.folder.version(label)
        if version.problem is not None:
            raise version.problem
        weights, model_yaml = version.weights, version.model_yaml
        settings = ModelSettings.read(model_yaml) if model_yaml is not None else None
        config: Path | ZooModel | None = version.config
        if settings is not None and settings.zoo is not None:
            if config is not None:
                raise Unprocessable(
                    "two_configs",
                    f"Version {label} has a config.yaml and names {settings.zoo} in model.yaml; a "
                    "model has one config.",
                )
            config = zoo.get(settings.zoo)
        source = ModelSource(config, weights, version.labels, version.root, settings)
        sha256 = version.manifest().files[weights.name].sha256
        return Candidate(label, source, sha256, version)

    def label_of(self, word: str) -> str:
        """See :class:`Shelf`."""
        return self.folder.version(self.folder.resolve(word)).label

    def labels(self) -> list[str]:
        """See :class:`Shelf`."""
        return [version.label for version in self.folder.versions()]

    def check_before(self, candidate: Candidate, progress: Progress) -> Callable[[Detector], None]:
        """See :class:`Shelf`: size and hash of every file."""
        version = self.folder.version(candidate.label)
        manifest = version.manifest()
        manifest.verify(version.path, _in_bytes(manifest, progress), root=version.root)

        def check_after(detector: Detector) -> None:
            check_digest(candidate, detector)
            manifest.verify(version.path, root=version.root)

        return check_after


class FileShelf:
    """Files that the command line named, or a reload: each that was loaded is a version, 1, 2, 3, ..."""

    def __init__(self) -> None:
        self._record = ModelRecord()
        self._candidates: dict[str, Candidate] = {}
        self._lock = threading.Lock()

    def record(self) -> ModelRecord:
        """See :class:`Shelf`."""
        return self._record

    def change(self, change: Change) -> ModelRecord:
        """See :class:`Shelf`."""
        with self._lock:
            self._record = change(self._record)
        return self._record

    def next(self, source: ModelSource) -> Candidate:
        """The files of ``source`` as a new version, which nobody remembers until :meth:`keep`."""
        number = max((int(label) for label in self._candidates), default=0) + 1
        return Candidate(str(number), source)

    def keep(self, candidate: Candidate, version: ModelVersion) -> None:
        """Remember what was loaded, for a rollback to it."""
        sha256 = version.detector.description.weights_sha256
        self._candidates[candidate.label] = Candidate(candidate.label, candidate.source, sha256)

    def candidate(self, label: str) -> Candidate:
        """See :class:`Shelf`."""
        try:
            return self._candidates[label]
        except KeyError:
            raise self._unknown(label) from None

    def label_of(self, word: str) -> str:
        """See :class:`Shelf`."""
        record = self._record
        words = {
            "current": record.current,
            "previous": record.previous,
            "latest": next(reversed(self._candidates), None),
        }
        label = words.get(word) or record.aliases.get(word, word)
        if label not in self._candidates:
            raise self._unknown(word)
        return label

    def labels(self) -> list[str]:
        """See :class:`Shelf`."""
        return sorted(self._candidates, key=natural_key)

    def check_before(self, candidate: Candidate, progress: Progress) -> Callable[[Detector], None]:
        """See :class:`Shelf`: what kind of file the weights are, and that they stay the same."""
        source = candidate.source
        stamp: FileStamp = check_file(source.weights, source.root)

        def check_after(detector: Detector) -> None:
            check_unchanged(source.weights, stamp)
            check_digest(candidate, detector)

        return check_after

    def _unknown(self, word: str) -> NotFound:
        known = ", ".join(self.labels()) or "none"
        return NotFound(
            "unknown_version", f"There is no version {word[:80]!r}; there are: {known}."
        )


def _in_bytes(manifest: Manifest, progress: Progress) -> Callable[[str, int], None]:
    """From bytes that were read to ``progress``."""
    read = 0

    def told(name: str, count: int) -> None:
        nonlocal read
        read += count
        progress(read, manifest.size_bytes)

    return told


def check_digest(candidate: Candidate, detector: Detector) -> None:
    """Whether the weights that were loaded are those that were asked for.

    Raises:
        Unprocessable: ``file_changed``.
    """
    found = detector.description.weights_sha256
    if candidate.sha256 is not None and found != candidate.sha256:
        raise Unprocessable(
            "file_changed",
            f"The weights of version {candidate.label} are no longer the same file (SHA-256 "
            f"{found[:12]}..., it was {candidate.sha256[:12]}...). Keep versions in a model "
            "repository, or set keep_previous=memory.",
            version=candidate.label,
        )
