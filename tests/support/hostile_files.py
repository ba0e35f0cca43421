"""Weights files as an attacker would write them: instruction by instruction, entry by entry."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROTOCOL_2 = b"\x80\x02"


class Runs:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def text(value: str) -> bytes:
    """The instruction that pushes a text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """The instruction that pushes a whole number of up to eight bytes."""
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """Instructions that call a name with what the instructions ``arguments`` push."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def weights(value: bytes, name: str = "a") -> bytes:
    """A pickle of ``{name: value}``."""
    return PROTOCOL_2 + b"}" + text(name) + value + b"s."


def storage(key: str, numel: int, kind: str = "FloatStorage") -> bytes:
    """Instructions that push a storage of a ``.pth``."""
    named = f"ctorch\n{kind}\n".encode()
    return b"(" + text("storage") + named + text(key) + text("cpu") + number(numel) + b"tQ"


def numbers(*values: int) -> bytes:
    """Instructions that push a tuple of whole numbers."""
    return b"(" + b"".join(number(value) for value in values) + b"t"


def tensor(stored: bytes, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """Instructions that push a tensor on the storage that ``stored`` pushes."""
    rest = (number(offset), numbers(*shape), numbers(*stride), b"\x89", b"N")
    return call("torch._utils", "_rebuild_tensor_v2", stored, *rest)


def write_pth(path: Path, pickled: bytes, **entries: bytes) -> Path:
    """A ``.pth`` of this pickle; ``data_0=...`` is its storage 0."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for name, content in entries.items():
            archive.writestr(f"archive/{name.replace('_', '/')}", content)
    return path


def write_sparse(path: Path, size: int = 100 << 30, head: bytes = b"") -> Path:
    """A file that claims ``size`` bytes and takes no room on the disk."""
    path.write_bytes(head)
    os.truncate(path, size)
    return path


@contextmanager
def memory_of_at_most(mebibytes: int) -> Iterator[None]:
    """Fails when Python or NumPy take more at once than that meanwhile."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < mebibytes << 20, f"{peak / (1 << 20):.0f} MiB"
