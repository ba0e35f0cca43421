"""What the names in a pickle of weights stand for: NumPy's arrays, bytes, and nothing else.

Allow-listed names do not give the real objects but the stand-ins below: NumPy's own unpickling
trusts the file with memory layouts, so it never sees the file either.
"""

from __future__ import annotations

import math
import os
import re
from typing import Any, BinaryIO

import numpy as np

from models.checkpoints.pickle_machine import Machine
from models.checkpoints.pickle_values import Budget, Build, Stateful, check_key
from models.errors import CheckpointError

_DTYPE_CODES = frozenset(
    ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "?"]
)
_DTYPE_NAMES = re.compile(r"(bool|u?int(8|16|32|64)|float(16|32|64))")
_OBJECTS = "The file holds an array of objects; only numbers can be weights."
_BYTE_ORDERS = frozenset("<>=|")
_MAX_TEXT = 64  # characters of a type's name
_MAX_DIMENSIONS = 32
_ENCODINGS = ("latin1", "latin-1")
# A file's own size, this many times: Python 2's text is decoded, encoded and copied.
_COPIES = 8
_SPARE_BYTES = 1 << 20


class PickledDtype(Stateful):
    """Stands in for ``numpy.dtype``: numbers and booleans only."""

    def __init__(self, budget: Budget, code: object, *flags: object) -> None:
        if isinstance(code, bytes) and len(code) <= _MAX_TEXT:
            code = code.decode("latin1")
        if not isinstance(code, str) or len(code) > _MAX_TEXT:
            raise _unsupported(code)
        order, short = (code[0], code[1:]) if code[:1] in _BYTE_ORDERS else ("=", code)
        if short not in _DTYPE_CODES and not _DTYPE_NAMES.fullmatch(short):
            raise _unsupported(short)
        self.dtype = np.dtype(short).newbyteorder(order)  # type: ignore[arg-type]  # checked above

    def set_state(self, budget: Budget, state: object) -> None:
        """Takes the byte order out of ``(version, order, ...)``."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if isinstance(order, bytes) and len(order) == 1:
            order = order.decode("latin1")
        if not isinstance(order, str) or order not in _BYTE_ORDERS:
            raise CheckpointError("The file describes an array's type in an unknown way.")
        self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]  # checked above


class PickledArray(Stateful):
    """Stands in for ``numpy.ndarray``; ``array`` is there once the file has given its content."""

    def __init__(self) -> None:
        self.array: np.ndarray[Any, np.dtype[Any]] | None = None

    def set_state(self, budget: Budget, state: object) -> None:
        """Takes ``(version, shape, dtype, is_fortran, data)``."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise CheckpointError("The file describes an array in an unknown way.")
        _, shape, dtype, is_fortran, data = state
        self.array = _array(budget, data, dtype, shape, "F" if is_fortran is True else "C")


def _array(
    budget: Budget, data: object, dtype: object, shape: object, order: object = "C"
) -> np.ndarray[Any, np.dtype[Any]]:
    if isinstance(data, str):  # written by Python 2, or through _codecs.encode
        data = _encode(budget, data)
    if not isinstance(dtype, PickledDtype) or not isinstance(data, bytes):
        raise CheckpointError(_OBJECTS)
    sides = shape if isinstance(shape, tuple) else (shape,)
    if len(sides) > _MAX_DIMENSIONS or not all(
        type(side) is int and 0 <= side < 1 << 31 for side in sides
    ):
        raise CheckpointError("The file holds an array whose shape is not a few whole numbers.")
    if math.prod(sides) * dtype.dtype.itemsize != len(data):
        raise CheckpointError(
            f"The file holds an array of shape {sides} whose data is of another length."
        )
    budget.spend(len(data))
    flat = np.frombuffer(data, dtype.dtype) if data else np.empty(0, dtype.dtype)
    try:
        array = flat.reshape(sides, order="F" if order == "F" else "C")
    except ValueError:  # empty, and its other sides together are no size for NumPy
        raise CheckpointError(f"The file holds an array of the shape {sides}.") from None
    # A copy, because the bytes are read-only and PyTorch wants native byte order.
    return np.array(array, dtype=dtype.dtype.newbyteorder("="), order="C")


def _unsupported(code: object) -> CheckpointError:
    if code in ("O", "O8", "object"):
        return CheckpointError(_OBJECTS)
    shown = repr(code[:_MAX_TEXT]) if isinstance(code, str) else f"a {type(code).__name__}"
    return CheckpointError(f"The file holds an array of the type {shown}, which cannot be weights.")


def _encode(budget: Budget, text: object, encoding: object = "latin1") -> bytes:
    """Stands in for ``_codecs.encode``, which is how protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in _ENCODINGS:
        raise CheckpointError("The file encodes its data in an unknown way.")
    budget.spend(len(text))
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        raise CheckpointError("The file encodes its data in an unknown way.") from None


def _no_bytes(budget: Budget) -> bytes:
    """Stands in for ``bytes``, which protocol 2 calls for the data of an empty array."""
    return b""


def _ordered_dict(budget: Budget, content: object = ()) -> dict[Any, Any]:
    """Stands in for OrderedDict, of nothing, of a dict or (as Python 2 wrote it) of pairs."""
    if isinstance(content, dict):
        return content
    if not isinstance(content, list | tuple):
        raise CheckpointError("The file describes a dict in an unknown way.")
    budget.spend(100 * len(content))  # about what an entry of a dict takes
    made: dict[Any, Any] = {}
    for pair in content:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise CheckpointError("The file describes a dict in an unknown way.")
        made[check_key(pair[0])] = pair[1]
    return made


def _reconstruct(budget: Budget, *args: object) -> PickledArray:
    return PickledArray()


def _scalar(budget: Budget, dtype: object, data: object = b"") -> int | float | bool:
    value: int | float | bool = _array(budget, data, dtype, (1,))[0].item()
    return value


def _frombuffer(
    budget: Budget, data: object, dtype: object, shape: object, order: object
) -> PickledArray:
    pickled = PickledArray()
    pickled.array = _array(budget, data, dtype, shape, order)
    return pickled


# What the names in a file stand for; NumPy 2 writes numpy._core where NumPy 1 wrote numpy.core.
ALLOWED: dict[str, Build] = {
    "_codecs.encode": _encode,
    "__builtin__.bytes": _no_bytes,
    "collections.OrderedDict": _ordered_dict,
    "numpy.dtype": PickledDtype,
    "numpy.ndarray": _reconstruct,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
}


def budget_of(size: int) -> Budget:
    """What the calls in a file of ``size`` bytes may copy."""
    return Budget(_COPIES * size + _SPARE_BYTES)


def restricted_load(file: BinaryIO) -> Any:
    """Reads a pickle that holds weights as Detectron2's model zoo writes them.

    Raises:
        CheckpointError: the file names anything outside the allow-list, or asks for more than its
            size allows; nothing was executed.
        pickle.UnpicklingError: it is no pickle, or cut off.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return Machine(file, size=size, names=ALLOWED, budget=budget_of(size)).load()
