"""A version's manifest: its files with sizes and hashes. It is written last and makes the version
complete; what does not agree with it is not loaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from service.repository.disk.atomic_file import write_atomically
from service.repository.disk.regular_files import VersionProblem, open_regular

MANIFEST = "manifest.json"
CONFIG, LABELS, MODEL_YAML, GOLDEN = "config.yaml", "labels.txt", "model.yaml", "golden.json"
STUFF_LABELS, KEYPOINTS = "stuff_labels.txt", "keypoints.json"
WEIGHTS_SUFFIXES = frozenset({".pth", ".pkl", ".pt", ".safetensors"})
FORMAT = 1

Progress = Callable[[str, int], None]
"""Is told the file and how many more of its bytes were read."""

_MAX_BYTES = 4 << 20
_MAX_FILES = 10_000
_CHUNK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*")


@dataclass(frozen=True)
class FileEntry:
    """One file: its size in bytes and the hexadecimal SHA-256 of its content."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of a version by their names, relative to its folder and with ``/`` between folders.

    Attributes:
        files: never the manifest itself, and nothing hidden.
        created_at: when it was made, ISO 8601 in UTC.
    """

    files: Mapping[str, FileEntry]
    created_at: str

    @classmethod
    def of(
        cls, folder: Path, progress: Progress | None = None, *, root: Path | None = None
    ) -> Self:
        """Read and hash all files of ``folder``, those in its folders included.

        Args:
            folder: a version's.
            progress: is told of the bytes that are read.
            root: the folder that symlinks must not leave; default: ``folder``.

        Raises:
            VersionProblem: one of them is no regular file, or leads out of ``root``.
        """
        real_root = (root or folder).resolve()
        files = {name: _hashed(folder, name, real_root, progress) for name in file_names(folder)}
        return cls(files, datetime.now(UTC).isoformat(timespec="seconds"))

    @classmethod
    def read(cls, folder: Path, *, root: Path | None = None) -> Self:
        """The manifest in ``folder``.

        Raises:
            VersionProblem: ``version_incomplete`` if there is none, or it is damaged.
        """
        try:
            handle = open_regular(folder / MANIFEST, (root or folder).resolve(), MANIFEST)
        except VersionProblem as problem:
            if problem.code != "file_missing":
                raise
            raise VersionProblem(
                "version_incomplete",
                f"It has no {MANIFEST}: it is still being copied, or detserve models add has to "
                "seal it.",
            ) from None
        with os.fdopen(handle, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        try:
            if len(content) > _MAX_BYTES:
                raise ValueError(f"it is over {_MAX_BYTES} bytes")
            return cls._parse(json.loads(content))
        except (ValueError, RecursionError) as error:
            reason = "it is no JSON" if isinstance(error, json.JSONDecodeError) else str(error)
            raise VersionProblem(
                "version_incomplete",
                f"Its {MANIFEST} is damaged: {reason}. Remove the version and add it again.",
            ) from None

    @classmethod
    def _parse(cls, value: Any) -> Self:
        if not isinstance(value, dict) or not isinstance(value.get("files"), dict):
            raise ValueError("it does not list files")
        if value.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        if len(value["files"]) > _MAX_FILES:
            raise ValueError(f"it lists more than {_MAX_FILES} files")
        files = {_checked_name(name): _entry(entry) for name, entry in value["files"].items()}
        created_at = value.get("created_at", "")
        return cls(files, created_at if isinstance(created_at, str) else "")

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the names, sizes and hashes: the same files are the same version."""
        return hashlib.sha256(self._canonical()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(entry.size for entry in self.files.values())

    def write(self, folder: Path) -> None:
        """Write the manifest into ``folder``, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        files = {name: {"size": e.size, "sha256": e.sha256} for name, e in self.files.items()}
        value = {"format": FORMAT, "files": files, "created_at": self.created_at}
        write_atomically(folder / MANIFEST, json.dumps(value, indent=1).encode())

    def check_sizes(self, folder: Path, *, root: Path | None = None) -> None:
        """Whether every file is there with its size, and no other that would be used; reads none.

        Raises:
            VersionProblem: why not.
        """
        real_root = (root or folder).resolve()
        for name, entry in self.files.items():
            os.close(_open_sized(folder, name, entry, real_root))
        for name in _used_names(folder):
            if name not in self.files:
                raise VersionProblem(
                    "file_unlisted",
                    f"{name} is not listed in {MANIFEST}: it came after the version was sealed. "
                    "Remove it, or add a new version.",
                    file=name,
                )

    def verify(
        self, folder: Path, progress: Progress | None = None, *, root: Path | None = None
    ) -> None:
        """Whether the files are what the manifest says; sizes of all come before any hash.

        Args: as for :meth:`of`.

        Raises:
            VersionProblem: why not.
        """
        self.check_sizes(folder, root=root)
        real_root = (root or folder).resolve()
        for name, entry in self.files.items():
            if _hashed(folder, name, real_root, progress, expected=entry) != entry:
                raise _changed(name, "its content is another")

    def _canonical(self) -> bytes:
        files = {name: [entry.size, entry.sha256] for name, entry in self.files.items()}
        return json.dumps([FORMAT, files], sort_keys=True, separators=(",", ":")).encode()


def file_names(folder: Path) -> list[str]:
    """All files that a manifest of ``folder`` lists, sorted; hidden ones and the manifest are none.

    Raises:
        VersionProblem: ``not_a_regular_file`` for a folder that is a symlink, or a name that is none.
    """
    names: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        place = Path(parent)
        for name in folders:
            if (place / name).is_symlink():  # would not be walked, so its files would be forgotten
                shown = (place / name).relative_to(folder).as_posix()
                raise VersionProblem(
                    "not_a_regular_file",
                    f"{shown} is a symlink to a folder; copy the files themselves.",
                    file=shown,
                )
        names += [(place / f).relative_to(folder).as_posix() for f in files if f[0] != "."]
        if len(names) > _MAX_FILES:
            raise VersionProblem(
                "version_incomplete", f"The folder holds more than {_MAX_FILES} files."
            )
    try:
        return sorted(_checked_name(name) for name in names if name != MANIFEST)
    except ValueError as error:
        raise VersionProblem("not_a_regular_file", f"{error}.") from None


def check_regular(folder: Path, *, root: Path | None = None) -> None:
    """Whether all files of ``folder`` can be read without blocking; opens them alone.

    Raises:
        VersionProblem: one is no regular file, or leads out of ``root``; as :meth:`Manifest.of`.
    """
    real_root = (root or folder).resolve()
    for name in file_names(folder):
        os.close(open_regular(folder / name, real_root, name))


def weights_names(folder: Path) -> list[str]:
    """Names of the weights files at the top of ``folder``, sorted."""
    return sorted(
        name
        for name in os.listdir(folder)
        if not name.startswith(".") and Path(name).suffix.lower() in WEIGHTS_SUFFIXES
    )


def _used_names(folder: Path) -> list[str]:
    """What the server would read of ``folder``, listed or not."""
    known = (CONFIG, LABELS, STUFF_LABELS, KEYPOINTS, MODEL_YAML, GOLDEN)
    return weights_names(folder) + [name for name in known if os.path.lexists(folder / name)]


def _checked_name(name: str) -> str:
    if not all(_PART.fullmatch(part) for part in name.split("/")):
        raise ValueError(f"{name!r} is no name of a file inside the folder")
    return name


def _entry(value: Any) -> FileEntry:
    size = value.get("size") if isinstance(value, dict) else None
    digest = value.get("sha256") if isinstance(value, dict) else None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError("a file lacks its size")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise ValueError("a file lacks its sha256")
    return FileEntry(size, digest)


def _open_sized(folder: Path, name: str, entry: FileEntry, root: Path) -> int:
    handle = open_regular(folder / name, root, name)
    size = os.fstat(handle).st_size
    if size != entry.size:
        os.close(handle)
        raise _changed(name, f"it has {size} bytes, not {entry.size}", size=size)
    return handle


def _hashed(
    folder: Path,
    name: str,
    root: Path,
    progress: Progress | None,
    *,
    expected: FileEntry | None = None,
) -> FileEntry:
    """Read one file; with ``expected`` its size is checked first, and no byte beyond it is read."""
    if expected is None:
        handle = open_regular(folder / name, root, name)
    else:
        handle = _open_sized(folder, name, expected, root)
    digest = hashlib.sha256()
    with os.fdopen(handle, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        read = 0
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            read += len(chunk)
            if progress is not None:
                progress(name, len(chunk))
            if read > size:
                break
    if read != size:
        raise _changed(name, "it changed while it was read")
    return FileEntry(size, digest.hexdigest())


def _changed(name: str, reason: str, **details: Any) -> VersionProblem:
    return VersionProblem(
        "file_changed",
        f"{name} is not the file that the {MANIFEST} lists: {reason}. Versions are immutable: put "
        "the file back, or add a new version.",
        file=name,
        **details,
    )
