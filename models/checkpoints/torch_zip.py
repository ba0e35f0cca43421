"""Files of ``torch.save``: a zip whose ``data.pkl`` says where the tensors go, one entry each.

Nothing is unpacked, to disk or otherwise: entries are runs of bytes that lie in the file as they
are, and only those that belong to weights are read.
"""

from __future__ import annotations

import functools
import io
import struct
import sys
import zipfile
from io import BufferedReader
from pathlib import PurePosixPath
from typing import Any

from models.checkpoints.pickle_machine import Machine
from models.checkpoints.torch_names import TORCH_NAMES, parse_storage_id
from models.checkpoints.torch_storages import DAMAGED, Storage, read_bytes
from models.checkpoints.unpickler import budget_of
from models.errors import CheckpointError

_MAX_DIRECTORY_BYTES = 8 << 20  # about 100,000 entries
_MAX_PICKLE_BYTES = 256 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED, _UTF8 = 1, 1 << 11  # flags of an entry
_BYTE_ORDERS = {b"little": "little", b"big": "big"}


def read_torch_zip(file: BufferedReader, size: int) -> Any:
    """The object that was saved, its tensors as claims, which are read while ``file`` is open.

    Args:
        size: of the file, in bytes.

    Raises:
        CheckpointError: it is damaged, no file of ``torch.save``, or asks for what is not allowed.
        pickle.UnpicklingError: its pickle is cut off or damaged.
    """
    entries = _entries(file, size)
    if "data.pkl" not in entries:
        raise CheckpointError(DAMAGED)
    if "constants.pkl" in entries:
        raise CheckpointError(
            "It is an exported TorchScript program, not a checkpoint. Use the model_final.pth "
            "that training wrote."
        )
    # PyTorch before 2.1 did not write it.
    order = _content(file, entries["byteorder"]) if "byteorder" in entries else b"little"
    if order not in _BYTE_ORDERS:
        raise CheckpointError(DAMAGED)
    is_foreign = _BYTE_ORDERS[order] != sys.byteorder
    storages: dict[str, Storage] = {}

    def persistent(pid: object) -> Storage:
        dtype, key, numel = parse_storage_id(pid)
        size_bytes = numel * dtype.itemsize
        if key not in storages:
            offset, entry_bytes = entries.get(f"data/{key}", (0, -1))
            if entry_bytes != size_bytes:
                raise CheckpointError(
                    "The file names a storage that it does not have in that size. It is damaged: "
                    "copy or download it again."
                )
            swapped = dtype.itemsize if is_foreign else 1
            read = functools.partial(read_bytes, file, offset, size_bytes, swapped=swapped)
            storages[key] = Storage(dtype, size_bytes, read)
        found = storages[key]
        if (found.dtype, found.size_bytes) != (dtype, size_bytes):
            raise CheckpointError("The file describes one storage in two ways.")
        return found

    pickled = _content(file, entries["data.pkl"])
    return Machine(
        io.BytesIO(pickled),
        size=len(pickled),
        names=TORCH_NAMES,
        budget=budget_of(len(pickled)),
        persistent=persistent,
    ).load()


def _content(file: BufferedReader, entry: tuple[int, int]) -> bytes:
    offset, size = entry
    if size > _MAX_PICKLE_BYTES:
        raise CheckpointError(f"The file has a pickle of {size} bytes, too large for weights.")
    file.seek(offset)
    return file.read(size)


def _entries(file: BufferedReader, size: int) -> dict[str, tuple[int, int]]:
    """Offset and size of each entry, by its name below the archive's one folder."""
    try:
        with zipfile.ZipFile(_Directory(file)) as archive:
            found = archive.infolist()
    except CheckpointError:
        raise
    except Exception:  # zipfile raises nearly anything on a broken directory
        raise CheckpointError(DAMAGED) from None
    entries: dict[str, tuple[int, int]] = {}
    folders = set()
    for info in found:
        folder, _, name = info.filename.partition("/")
        if (
            info.filename.startswith("/")
            or ".." in PurePosixPath(info.filename).parts
            or "\\" in info.orig_filename
        ):
            raise CheckpointError(
                f"It is a zip with the entry {info.orig_filename[:80]!r}, which torch.save does not "
                "write."
            )
        if not name:  # none of torch.save, which has all in a folder
            continue
        if name in entries:
            raise CheckpointError(f"It is a zip that has the entry {name[:80]!r} twice.")
        is_packed = info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size
        if is_packed or info.flag_bits & _ENCRYPTED:
            raise CheckpointError(
                "It is a zip with compressed or encrypted entries, which torch.save does not write. "
                "Load it and save it again, or unzip it if it holds the weights file."
            )
        folders.add(folder)
        entries[name] = (_offset(file, info, size), info.file_size)
    if len(folders) > 1 or sum(length for _, length in entries.values()) > size:
        raise CheckpointError(DAMAGED)
    return entries


def _offset(file: BufferedReader, info: zipfile.ZipInfo, size: int) -> int:
    """Where the content of an entry begins; all of it lies within the file."""
    if not 0 <= info.header_offset < size:
        raise CheckpointError(DAMAGED)
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) != _LOCAL_HEADER.size:
        raise CheckpointError(DAMAGED)
    signature: bytes
    name_bytes: int
    extra_bytes: int
    signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    offset = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    encoding = "utf-8" if info.flag_bits & _UTF8 else "cp437"
    is_its_own = file.read(name_bytes) == info.orig_filename.encode(encoding)
    if signature != b"PK\x03\x04" or not is_its_own or offset + info.file_size > size:
        raise CheckpointError(DAMAGED)
    return offset


class _Directory:
    """A file of which ``zipfile`` reads no more at once than a directory has."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def seekable(self) -> bool:
        """As ``zipfile`` asks."""
        return True

    def read(self, count: int = -1) -> bytes:
        """At most ``count`` bytes. Raises :class:`CheckpointError` when that is too much."""
        if not 0 <= count <= _MAX_DIRECTORY_BYTES:
            if count < 0:  # only asked for at the very end: the comment and what precedes it
                return self._file.read(_MAX_DIRECTORY_BYTES)
            raise CheckpointError("It is a zip of too many entries for weights.")
        return self._file.read(count)
