"""Tensors in a file of ``torch.save``, known by what the file claims and read when they are wanted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from io import BufferedReader

import torch

from models.errors import CheckpointError

DAMAGED = "It is cut off, damaged or not written by torch.save. Copy or download it again."
_MAX_EMPTY = 1 << 62  # product of the sides of an empty tensor that are not 0


@dataclasses.dataclass
class Storage:
    """A run of bytes in the file.

    Attributes:
        dtype: of its elements.
        size_bytes: what the file says of its size.
        read: gives the bytes, a tensor of uint8, or raises :class:`CheckpointError`; None as long as
            nothing is known of where they are.
    """

    dtype: torch.dtype
    size_bytes: int
    read: Callable[[], torch.Tensor] | None = None
    _content: torch.Tensor | None = None

    def content(self) -> torch.Tensor:
        """The bytes, read once."""
        if self._content is None:
            if self.read is None:
                raise CheckpointError("The file names a storage that it does not have.")
            self._content = self.read()
        return self._content


@dataclasses.dataclass(frozen=True)
class TensorClaim:
    """What a file says of a tensor: a view of elements of ``dtype`` on a storage."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor, on the CPU.

        Args:
            name: what error messages call it.

        Raises:
            CheckpointError: it does not lie within its storage.
        """
        numel = 1
        last = self.offset  # element that lies farthest in the storage
        for side, step in zip(self.shape, self.stride, strict=True):
            numel *= side
            last += max(side - 1, 0) * step
        # A tiny file can claim a huge tensor by repeating one element.
        size = self.storage.size_bytes // self.dtype.itemsize
        if numel > size or (numel and last >= size):
            raise CheckpointError(f"Its tensor {name} claims more elements than the file holds.")
        if not numel:
            if math.prod(side for side in self.shape if side) >= _MAX_EMPTY:
                raise CheckpointError(f"Its tensor {name} has impossible sides.")
            return torch.empty(self.shape, dtype=self.dtype)
        content = self.storage.content().untyped_storage()
        return torch.empty(0, dtype=self.dtype).set_(content, self.offset, self.shape, self.stride)


def read_bytes(file: BufferedReader, offset: int, size: int, *, swapped: int = 1) -> torch.Tensor:
    """Bytes of a file as a tensor of uint8, the order in each group of ``swapped`` turned round.

    Raises:
        CheckpointError: the file has become shorter.
    """
    content = torch.empty(size, dtype=torch.uint8)
    file.seek(offset)
    view = memoryview(content.numpy())  # type: ignore[arg-type]  # NumPy's stubs for Python 3.11 do not say Buffer
    done = 0
    while done < size:
        count = file.readinto(view[done:])
        if not count:
            raise CheckpointError("It became shorter while it was read. Try again.")
        done += count
    if swapped > 1:
        content = content.view(-1, swapped).flip(1).reshape(-1).contiguous()
    return content
