"""Files of ``torch.save`` before PyTorch 1.6: pickles one after the other, then the storages."""

from __future__ import annotations

import functools
import sys
from io import BufferedReader
from typing import Any

from models.checkpoints.pickle_machine import Machine
from models.checkpoints.torch_names import TORCH_NAMES, parse_storage_id
from models.checkpoints.torch_storages import DAMAGED, Storage, read_bytes
from models.checkpoints.unpickler import budget_of
from models.errors import CheckpointError

# How such a file begins: a pickled magic number.
LEGACY_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_PROTOCOL = 1001
_COUNT_BYTES = 8


def read_torch_legacy(file: BufferedReader, size: int) -> Any:
    """The object that was saved, its tensors as claims, which are read while ``file`` is open.

    Args:
        size: of the file, in bytes.

    Raises:
        CheckpointError: it is damaged or asks for what is not allowed.
        pickle.UnpicklingError: one of its pickles is cut off or damaged.
    """
    storages: dict[str, Storage] = {}
    budget = budget_of(size)

    def persistent(pid: object) -> Storage:
        dtype, key, numel = parse_storage_id(pid)
        found = storages.setdefault(key, Storage(dtype, numel * dtype.itemsize))
        if (found.dtype, found.size_bytes) != (dtype, numel * dtype.itemsize):
            raise CheckpointError("The file describes one storage in two ways.")
        return found

    def load() -> Any:
        return Machine(
            file, size=size, names=TORCH_NAMES, budget=budget, persistent=persistent
        ).load()

    file.seek(0)
    load()  # the magic number, by which this file was known
    protocol, system = load(), load()
    if protocol != _PROTOCOL or not isinstance(system, dict):
        raise CheckpointError(DAMAGED)
    is_foreign = system.get("little_endian", True) is not (sys.byteorder == "little")
    content = load()
    keys = load()
    if not isinstance(keys, list) or len(keys) != len(storages):
        raise CheckpointError(DAMAGED)
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        count = file.read(_COUNT_BYTES)
        offset = file.tell()
        if (
            storage is None
            or storage.read is not None
            or int.from_bytes(count, "little") * storage.dtype.itemsize != storage.size_bytes
            or offset + storage.size_bytes > size
        ):
            raise CheckpointError(DAMAGED)
        swapped = storage.dtype.itemsize if is_foreign else 1
        storage.read = functools.partial(
            read_bytes, file, offset, storage.size_bytes, swapped=swapped
        )
        file.seek(storage.size_bytes, 1)
    return content
