"""A version that arrives file by file: a hidden folder beside the versions, until all of it is there.

One caller at a time has the folder: it is locked, across processes too. What a crash leaves is taken
up by the next upload, or removed by :func:`remove_stale_uploads`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from models.errors import ModelError
from service.errors import Conflict, NotFound, TooLarge, Unprocessable
from service.repository.disk.adding import check_free, finish_version
from service.repository.disk.disk_errors import writing
from service.repository.disk.folder import ModelFolder, RepositoryFolder, VersionFolder
from service.repository.disk.manifest import FileEntry, Manifest, file_names, weights_names
from service.repository.disk.regular_files import VersionProblem
from service.repository.disk.weights_file import check_file

logger = logging.getLogger(__name__)

PREFIX = ".upload-"
STALE_AFTER_S = 3600.0
MAX_FILES = 1000
ALLOWED = (
    "config.yaml, labels.txt, stuff_labels.txt, keypoints.json, model.yaml, golden.json, "
    "golden/<name>.jpg or .png, and model_final.safetensors, .pth or .pkl"
)

_NAME = re.compile(
    r"config\.yaml|(stuff_)?labels\.txt|keypoints\.json|model\.yaml|golden\.json"
    r"|golden/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(jpg|png)"
    r"|model_final\.(safetensors|pth|pkl)"
)
_PART = ".part"


def check_file_name(name: str) -> str:
    """``name`` as it is, if a version may have such a file.

    Raises:
        Unprocessable: ``invalid_file_name``.
    """
    if _NAME.fullmatch(name) is None:
        raise Unprocessable(
            "invalid_file_name", f"A version has no file of this name; it may have {ALLOWED}."
        )
    return name


class StagingFolder:
    """The files of a version that have arrived. Nothing is touched before :meth:`open`.

    Attributes:
        path: the hidden folder.
    """

    def __init__(self, model: ModelFolder, label: str) -> None:
        """Stage the version ``label``, a valid name, of ``model``."""
        self.model = model
        self.label = label
        self.path = model.path / f"{PREFIX}{label}"
        self._lock: int | None = None
        self._part: BinaryIO | None = None
        self._hash = hashlib.sha256()

    def open(self, *, create: bool) -> None:
        """Lock the folder until :meth:`close`.

        Args:
            create: make it if it is not there.

        Raises:
            Conflict: ``upload_running``: somebody else has it; ``version_exists``, ``alias_exists``.
            NotFound: ``unknown_upload``, unless ``create``.
            VersionNotWritten: it cannot be made.
        """
        with writing():
            if create:
                with contextlib.suppress(FileExistsError):
                    self.path.mkdir()
            try:
                self._lock = _locked(self.path)
            except FileNotFoundError:
                if create:  # removed at this very moment, by whom we wait for
                    raise self._busy() from None
                raise NotFound(
                    "unknown_upload",
                    f"No upload of version {self.label!r} of {self.model.name!r} has begun.",
                ) from None
            except BlockingIOError:
                raise self._busy() from None
        check_free(self.model, self.label)

    def close(self) -> None:
        """Discard a file that is half there, remove the folder if it is empty, and let go of it."""
        if self._lock is None:
            return
        for remove in (self._discard, self.path.rmdir, self.model.path.rmdir):
            with contextlib.suppress(
                OSError
            ):  # not empty, as there is more to come, or gone already
                remove()
        os.close(self._lock)
        self._lock = None

    def room_for(self, name: str, limit: int) -> int:
        """How many bytes the file ``name`` may have, so that all files together stay within ``limit``.

        Raises:
            TooLarge: ``too_many_files``.
        """
        others = [other for other in file_names(self.path) if other != name]
        if len(others) >= MAX_FILES:
            raise TooLarge(
                "too_many_files",
                f"This version has {len(others)} files already; the limit is {MAX_FILES}.",
                limit=MAX_FILES,
                value=len(others) + 1,
            )
        return limit - sum((self.path / other).lstat().st_size for other in others)

    def begin(self) -> None:
        """Begin with a file; what there is of another is discarded."""
        self._discard()
        with writing():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(self.path / _PART, flags, 0o644)
        self._part = os.fdopen(handle, "wb")
        self._hash = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """Add to the file. Raises :class:`VersionNotWritten`."""
        assert self._part is not None, "a file was begun"
        with writing():
            self._part.write(chunk)
        self._hash.update(chunk)

    def finish(self, name: str, sha256: str | None = None) -> FileEntry:
        """Keep the file as ``name``, in the place of an earlier one.

        Args:
            sha256: what it has to be, if that is known.

        Raises:
            Unprocessable: ``hash_differs``: nothing is kept.
            VersionNotWritten: nothing is kept.
        """
        assert self._part is not None, "a file was begun"
        digest = self._hash.hexdigest()
        if sha256 is not None and digest != sha256:
            self._discard()
            raise Unprocessable(
                "hash_differs",
                f"What arrived as {name} has another SHA-256 than announced; send it again.",
                file=name,
                announced=sha256,
                sha256=digest,
            )
        target = self.path / name
        with writing():
            self._part.flush()
            os.fsync(self._part.fileno())
            size = os.fstat(self._part.fileno()).st_size
            target.parent.mkdir(exist_ok=True)
            (self.path / _PART).replace(target)
        self._part.close()
        self._part = None
        return FileEntry(size, digest)

    def complete(self, announced: Mapping[str, str] | None = None) -> VersionFolder:
        """Check all that has arrived, and make it a version.

        Args:
            announced: SHA-256 by name of all files, if they are known.

        Raises:
            Unprocessable: ``model_refused``, ``files_differ`` or a :class:`VersionProblem`: all that
                had arrived is removed. ``not_enough_memory`` to check it: all stays.
            Conflict: ``version_exists``, ``alias_exists``.
            VersionNotWritten: the disk does not take it.
        """
        self._discard()
        try:
            if announced is not None:
                self._compare(announced)
            for name in weights_names(self.path):
                check_file(self.path / name, self.path)
            return finish_version(self.model, self.path, self.label)
        except ModelError as error:
            self.drop()
            raise Unprocessable(
                "model_refused", f"{error.message} The upload was removed.", **error.details
            ) from None
        except VersionProblem:
            self.drop()
            raise

    def drop(self) -> None:
        """Remove all that has arrived. Raises :class:`VersionNotWritten`."""
        with writing():
            shutil.rmtree(self.path)

    def _compare(self, announced: Mapping[str, str]) -> None:
        arrived = {name: entry.sha256 for name, entry in Manifest.of(self.path).files.items()}
        names = sorted(arrived.keys() | announced.keys())
        differing = [name for name in names if arrived.get(name) != announced.get(name, "").lower()]
        if differing:
            self.drop()
            raise Unprocessable(
                "files_differ",
                "What arrived is not what was announced: other files are there, or some with another "
                "SHA-256. The upload was removed; send it again.",
                files=differing[:20],
            )

    def _discard(self) -> None:
        if self._part is not None:
            with contextlib.suppress(OSError):  # what is buffered finds the disk full
                self._part.close()
            self._part = None
        (self.path / _PART).unlink(missing_ok=True)

    def _busy(self) -> Conflict:
        return Conflict(
            "upload_running",
            f"Another upload to version {self.label!r} of {self.model.name!r} is running; a version "
            "takes one file after the other.",
        )


def remove_stale_uploads(root: Path, *, older_than_s: float = STALE_AFTER_S) -> list[Path]:
    """Remove staging folders in which nothing was written for ``older_than_s``; those removed.

    One that somebody has is left, and so is one that cannot be removed, which is logged.

    Raises:
        Unprocessable: ``invalid_repository``.
    """
    repository = RepositoryFolder(root)
    removed = []
    for name in repository.models():
        for path in sorted(repository.model(name).path.glob(f"{PREFIX}*")):
            try:
                with contextlib.suppress(BlockingIOError):
                    if _remove_stale(path, older_than_s):
                        logger.info("Removed the unfinished upload %s of %s", path.name, name)
                        removed.append(path)
            except OSError as error:
                logger.warning("The upload %s of %s stays: %s", path.name, name, error.strerror)
    return removed


def _remove_stale(path: Path, older_than_s: float) -> bool:
    lock = _locked(path)
    try:
        changes = [file.lstat().st_mtime for file in (path, *path.rglob("*"))]
        if time.time() - max(changes) < older_than_s:
            return False
        shutil.rmtree(path)
        return True
    finally:
        os.close(lock)


def _locked(folder: Path) -> int:
    """A descriptor that holds ``folder``, which is no symlink, until it is closed or we die.

    Raises:
        BlockingIOError: another has it.
        FileNotFoundError: it is not there, or was removed while we looked.
        OSError: it is no folder, or cannot be read.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it before may have removed or renamed it: then this one is no longer in its place.
        if not os.path.samestat(os.fstat(handle), os.lstat(folder)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    except OSError:
        os.close(handle)
        raise
    return handle
