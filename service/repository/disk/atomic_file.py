"""Writing a small file so that it is there whole, before and after a crash at any point."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path``: write a hidden file beside it, fsync, rename, fsync of the folder.

    Whoever reads meanwhile sees the old content or the new. What a crash leaves of the hidden file
    is replaced by the next write. Writers must not run at the same time.

    Raises:
        OSError: it cannot be written; the old file is as it was, and the hidden one is gone.
    """
    part = path.with_name(f".{path.name}.new")
    try:
        part.unlink(missing_ok=True)
        # Exclusive: never through a link, or into a FIFO, that somebody has put there.
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in ``folder`` survive a loss of power, where its file system can.

    A failure is logged alone: the names are changed already, and for everybody to see.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        logger.warning("the folder %s cannot be synced: %s", folder.name, error.strerror)
