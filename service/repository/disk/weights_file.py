"""A weights file that a client has named: whether it may be read at all, and whether it is still the
same once it was."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from service.errors import Unprocessable
from service.repository.disk.regular_files import open_regular
from service.repository.free_memory import free_host_memory

_MOST_PIECES = 4096
"""A file in more pieces than that, with more holes than data, was made to be a riddle."""


@dataclass(frozen=True)
class FileStamp:
    """Which file it was, and in what state: the numbers of ``stat``, size in bytes."""

    device: int
    inode: int
    size: int
    mtime_ns: int


def check_file(path: Path, root: Path | None, *, free_memory: int | None = None) -> FileStamp:
    """Take a weights file for loading, without reading it. It never blocks, whatever the path is.

    Args:
        path: the file.
        root: the folder that it must lie in, symlinks resolved; None trusts the path.
        free_memory: of the host, in bytes; None asks for it.

    Raises:
        VersionProblem: ``path_outside_root``, ``file_missing`` or ``not_a_regular_file`` (a folder,
            a device, a pipe, a socket).
        Unprocessable: ``empty_file``, ``sparse_file`` (most of it was never written) or
            ``not_enough_memory`` (it is larger than the host's free memory).
    """
    shown = path.name
    descriptor = open_regular(path, _real_root(path, root), shown)
    try:
        found = os.fstat(descriptor)
        holes = _is_mostly_holes(descriptor, found)
    finally:
        os.close(descriptor)
    facts = {"file": shown, "size": found.st_size}
    if found.st_size == 0:
        raise Unprocessable("empty_file", f"{shown} is empty; was it copied whole?", **facts)
    if holes:
        raise Unprocessable(
            "sparse_file",
            f"{shown} claims {found.st_size} bytes, most of which were never written; copy it again.",
            **facts,
        )
    free = free_host_memory() if free_memory is None else free_memory
    if free is not None and found.st_size > free:
        raise Unprocessable(
            "not_enough_memory",
            f"{shown} has {found.st_size} bytes and the host {free} free; free some memory, or save "
            "the weights without the state of their training.",
            **facts,
            free_host_bytes=free,
        )
    return _stamp(found)


def check_unchanged(path: Path, stamp: FileStamp) -> None:
    """Refuse a file that was replaced or written to since :func:`check_file` took it.

    Raises:
        Unprocessable: ``file_changed``.
    """
    try:
        now = _stamp(path.stat())
    except OSError:
        now = None
    if now != stamp:
        raise Unprocessable(
            "file_changed",
            f"{path.name} was replaced or written to while it was loaded. Try "
            "again once whatever writes it is done; better write to another name and rename it.",
            file=path.name,
        )


def _real_root(path: Path, root: Path | None) -> Path:
    if root is not None:
        return root.resolve()
    try:
        return path.resolve().parent
    except (OSError, RuntimeError, ValueError):  # a loop of symlinks: refused when it is opened
        return path.parent


def _is_mostly_holes(descriptor: int, found: os.stat_result) -> bool:
    """Whether less than half of a file is data.

    Blocks alone do not tell: file systems that compress have fewer, and some of the network have none.
    One that does not know of holes calls all of it data.
    """
    if found.st_blocks * 512 >= found.st_size // 2:
        return False
    data = position = 0
    for _ in range(_MOST_PIECES):
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            position = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            # ENXIO: no data from here on. Anything else: the file system does not tell.
            return error.errno == errno.ENXIO
        data += position - start
        if data >= found.st_size // 2:
            return False
    return True


def _stamp(found: os.stat_result) -> FileStamp:
    return FileStamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
