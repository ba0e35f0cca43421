"""Opening files that others have put on disk: regular ones under a root, and never one that blocks."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from service.errors import Unprocessable


class VersionProblem(Unprocessable):
    """A version's files cannot be used; the code says what kind of problem it is.

    The codes: ``version_incomplete``, ``file_missing``, ``file_changed``, ``file_unlisted``,
    ``not_a_regular_file``, ``path_outside_root`` (with status 403), ``several_weights``.
    """

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(code, message, **details)
        if code == "path_outside_root":
            self.status = 403


def resolve_inside(path: Path, root: Path, shown: str) -> Path:
    """``path`` with all symlinks followed, which exists and lies under ``root``.

    Args:
        root: a real path.
        shown: what to call the file in messages, since a path on the server is nobody's business.

    Raises:
        VersionProblem: ``file_missing`` or ``path_outside_root``.
    """
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # also a loop of symlinks, or a NUL in the name
        if path.is_symlink() and not _leads_inside(path, root):
            raise _outside(shown) from None
        raise VersionProblem("file_missing", f"{shown} is not there.", file=shown) from None
    if not real.is_relative_to(root):
        raise _outside(shown)
    return real


def open_regular(path: Path, root: Path, shown: str) -> int:
    """A descriptor that reads a regular file under ``root``; symlinks that stay inside are followed.

    A FIFO, a device or a socket is refused before it is opened, and once more after, should it have
    been put there meanwhile; opening never blocks.

    Args: as for :func:`resolve_inside`.

    Raises:
        VersionProblem: ``file_missing``, ``path_outside_root`` or ``not_a_regular_file``.
    """
    real = resolve_inside(path, root, shown)
    try:
        if not stat.S_ISREG(os.lstat(real).st_mode):
            raise _not_regular(shown)
        handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise VersionProblem(
            "file_missing", f"{shown} cannot be read: {error.strerror}.", file=shown
        ) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _not_regular(shown)
    return handle


def _leads_inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):
        return True  # a loop leads nowhere


def _outside(shown: str) -> VersionProblem:
    return VersionProblem(
        "path_outside_root",
        f"{shown} leads out of the model repository; copy the file into the version's folder.",
        file=shown,
    )


def _not_regular(shown: str) -> VersionProblem:
    return VersionProblem(
        "not_a_regular_file",
        f"{shown} is no regular file; a version holds plain files.",
        file=shown,
    )
