"""Where batches lie while they wait: a folder of this process, bounded in bytes, gone when it ends."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import threading
import uuid
from pathlib import Path

from service.errors import QueueFull, TooLarge

logger = logging.getLogger(__name__)

PREFIX = "detserve-batches-"
_RETRY_AFTER_S = 60


class Spool:
    """Folders of jobs under one of this process. Of any thread.

    Args:
        root: where that folder is made, with the first job; None: the system's folder for temporary
            files, if it has one.
        max_bytes: of all jobs together, results included.
    """

    def __init__(self, root: Path | None, max_bytes: int) -> None:
        self._given_root = root
        self.max_bytes = max_bytes
        self._used = 0
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._handle = -1

    @property
    def used(self) -> int:
        """Bytes of all jobs."""
        return self._used

    def _root(self) -> Path:
        """Raises OSError where nothing can be written, as in a container whose disk is read-only."""
        return self._given_root if self._given_root is not None else Path(tempfile.gettempdir())

    def new_folder(self) -> SpoolFolder:
        """An empty folder for one job. Raises OSError where the disk takes none."""
        with self._lock:
            if self._path is None:
                root = self._root()
                root.mkdir(parents=True, exist_ok=True)
                # Readable by this user alone.
                path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
                # Held as long as the process lives, so that the next one knows what is left over.
                self._handle = _lock(path)
                self._path = path
            path = self._path / uuid.uuid4().hex
            path.mkdir(mode=0o700)
        return SpoolFolder(self, path)

    def take(self, number: int, *, held: int) -> None:
        """Count ``number`` bytes more, of a job that has ``held`` already.

        Raises:
            TooLarge: ``batch_too_large``: that is more than all jobs may have.
            QueueFull: ``batch_space_full``: others have taken the rest.
        """
        with self._lock:
            if held + number > self.max_bytes:
                raise TooLarge(
                    "batch_too_large",
                    f"The batch has {held + number} bytes or more with its results; the limit is "
                    f"{self.max_bytes} (max_batch_bytes). Send several smaller ones.",
                    limit=self.max_bytes,
                    value=held + number,
                )
            if self._used + number > self.max_bytes:
                raise QueueFull(
                    "batch_space_full",
                    "Other batches have taken the space for batches. Delete those that you have "
                    f"fetched, or try again in {_RETRY_AFTER_S} s.",
                    retry_after=_RETRY_AFTER_S,
                    limit=self.max_bytes,
                )
            self._used += number

    def give_back(self, number: int) -> None:
        """Bytes that are on disk no longer."""
        with self._lock:
            self._used -= number

    def remove_stale(self) -> list[Path]:
        """Remove what processes have left that are no more; those folders."""
        removed: list[Path] = []
        try:
            left = sorted(self._root().glob(f"{PREFIX}*"))
        except OSError:
            return removed  # there is no such folder, so there is nothing in it
        for path in left:
            if path == self._path:
                continue
            try:
                handle = _lock(path)
            except OSError:
                continue  # its process lives, or it is another user's
            try:
                shutil.rmtree(path)
                removed.append(path)
            except OSError as error:
                logger.warning(
                    "batches left over in %s cannot be removed: %s", path, error.strerror
                )
            finally:
                os.close(handle)
        return removed

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            if self._path is None:
                return
            path, self._path = self._path, None
            shutil.rmtree(path, ignore_errors=True)
            os.close(self._handle)


class SpoolFolder:
    """The files of one job; made by :meth:`Spool.new_folder`."""

    def __init__(self, spool: Spool, path: Path) -> None:
        self._spool = spool
        self.path = path
        self.held = 0
        self._removed = False
        self._lock = threading.Lock()

    def append(self, name: str, data: bytes) -> Path:
        """Write ``data`` at the end of a file; the names are ours.

        Raises:
            TooLarge, QueueFull: as :meth:`Spool.take`.
            OSError: the disk takes no more, or the folder was removed.
        """
        self._spool.take(len(data), held=self.held)
        with self._lock:
            if self._removed:
                self._spool.give_back(len(data))
                raise FileNotFoundError(f"{self.path.name} was removed")
            self.held += len(data)
        path = self.path / name
        with path.open("ab") as file:
            file.write(data)
        return path

    def remove(self) -> None:
        """Remove all of it; may be called again."""
        with self._lock:
            if self._removed:
                return
            self._removed = True
            held = self.held
        shutil.rmtree(self.path, ignore_errors=True)
        self._spool.give_back(held)

    def remove_inputs(self, results: str) -> None:
        """Remove all files but ``results``: the images have been read."""
        freed = 0
        for path in self.path.iterdir():
            if path.name != results:
                with contextlib.suppress(OSError):
                    size = path.stat().st_size
                    path.unlink()
                    freed += size
        with self._lock:
            if self._removed:
                return
            self.held -= freed
        self._spool.give_back(freed)


def _lock(path: Path) -> int:
    """A handle that keeps others from the folder. Raises OSError when somebody has it."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(handle).st_uid != os.getuid():
            raise PermissionError(f"{path.name} belongs to another user")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle
