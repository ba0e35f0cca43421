"""Opening files that somebody else put there: regular ones only, and without ever blocking."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path


class NotRegularError(OSError):
    """What a path names is a folder, a pipe, a device or a socket; ``strerror`` says which."""


_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a pipe"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
    (stat.S_ISSOCK, "it is a socket"),
)


def open_regular(path: str | Path) -> BufferedReader:
    """Opens a regular file for reading.

    Raises:
        NotRegularError: it is something else, which was not opened: to open a pipe may wait for
            ever, to open a device may change it.
        OSError: it is not there or cannot be read.
        ValueError: no path can be so (it has a zero byte).
    """
    _check_regular(os.stat(path).st_mode)
    # It may have become something else since; then this flag keeps the opening from waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _check_regular(os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:  # nobody else closes it
        os.close(descriptor)
        raise


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((text for test, text in _KINDS if test(mode)), "it is no regular file")
        raise NotRegularError(None, kind)
