"""An unpickler that can build dicts, numbers, text and plain arrays, and nothing else.

Allow-listed names do not give the real objects but the stand-ins below: NumPy's own unpickling
trusts the file with memory layouts, so it never sees the file either.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

import numpy as np

from models.errors import CheckpointError

_DTYPE_CODES = frozenset(
    ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "?"]
)
_DTYPE_NAMES = re.compile(r"(bool|u?int(8|16|32|64)|float(16|32|64))")
_OBJECTS = "The file holds an array of objects; only numbers can be weights."
_BYTE_ORDERS = frozenset("<>=|")


class PickledDict(dict[Any, Any]):
    """Stands in for OrderedDict; attributes (PyTorch's ``_metadata``) are dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class PickledDtype:
    """Stands in for ``numpy.dtype``: numbers and booleans only."""

    def __init__(self, code: object, *flags: object) -> None:
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str):
            raise _unsupported(code)
        order, code = (code[0], code[1:]) if code[:1] in _BYTE_ORDERS else ("=", code)
        if code not in _DTYPE_CODES and not _DTYPE_NAMES.fullmatch(code):
            raise _unsupported(code)
        self.dtype = np.dtype(code).newbyteorder(order)  # type: ignore[arg-type]  # checked above

    def __setstate__(self, state: object) -> None:
        """Takes the byte order out of ``(version, order, ...)``."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if not isinstance(order, str) or order not in _BYTE_ORDERS:
            raise CheckpointError("The file describes an array's type in an unknown way.")
        self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]  # checked above


class PickledArray:
    """Stands in for ``numpy.ndarray``; ``array`` is there once the file has given its content."""

    array: np.ndarray[Any, np.dtype[Any]] | None = None

    def __setstate__(self, state: object) -> None:
        """Takes ``(version, shape, dtype, is_fortran, data)``."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise CheckpointError("The file describes an array in an unknown way.")
        _, shape, dtype, is_fortran, data = state
        self.array = _array(data, dtype, shape, "F" if is_fortran else "C")


def _array(
    data: object, dtype: object, shape: object, order: object = "C"
) -> np.ndarray[Any, np.dtype[Any]]:
    if isinstance(data, str):  # written by Python 2, or through _codecs.encode
        data = data.encode("latin1")
    if not isinstance(dtype, PickledDtype) or not isinstance(data, bytes | bytearray):
        raise CheckpointError(_OBJECTS)
    shape = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(side) is int and side >= 0 for side in shape):
        raise CheckpointError("The file holds an array whose shape is not whole numbers.")
    try:
        flat = np.frombuffer(data, dtype.dtype) if data else np.empty(0, dtype.dtype)
        array = flat.reshape(shape, order="F" if order == "F" else "C")
    except ValueError:
        raise CheckpointError(
            f"The file holds an array of shape {shape} whose data is of another length."
        ) from None
    # A copy, because the bytes are read-only and PyTorch wants native byte order.
    return np.array(array, dtype=dtype.dtype.newbyteorder("="), order="C")


def _unsupported(code: object) -> CheckpointError:
    if code in ("O", "O8", "object"):
        return CheckpointError(_OBJECTS)
    return CheckpointError(
        f"The file holds an array of the type {code!r}, which cannot be weights."
    )


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Stands in for ``_codecs.encode``, which is how protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise CheckpointError("The file encodes its data in an unknown way.")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands in for ``bytes``, which protocol 2 calls for the data of an empty array."""
    return b""


def _reconstruct(*args: object) -> PickledArray:
    return PickledArray()


def _scalar(dtype: object, data: object = b"") -> int | float | bool:
    value: int | float | bool = _array(data, dtype, (1,))[0].item()
    return value


def _frombuffer(data: object, dtype: object, shape: object, order: object) -> PickledArray:
    pickled = PickledArray()
    pickled.array = _array(data, dtype, shape, order)
    return pickled


# What the names in a file stand for; NumPy 2 writes numpy._core where NumPy 1 wrote numpy.core.
ALLOWED: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _encode,
    "__builtin__.bytes": _no_bytes,
    "collections.OrderedDict": PickledDict,
    "numpy.dtype": PickledDtype,
    "numpy.ndarray": PickledArray,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed = ALLOWED.get(f"{module}.{name}")
        if allowed is None:
            raise not_allowed(f"{module}.{name}")
        return allowed

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("persistent ids belong to torch.save, not to a plain pickle")


def not_allowed(name: str) -> CheckpointError:
    """The error for a file that names something which is not allow-listed."""
    return CheckpointError(
        f"The file refers to {name}, which is not allowed; nothing was executed. If you trust "
        "where it comes from, save the weights alone where it was made: "
        "torch.save({'model': model.state_dict()}, 'model_final.pth').",
        refers_to=name,
    )


def restricted_load(file: BinaryIO) -> Any:
    """Reads a pickle that holds weights as Detectron2's model zoo writes them.

    Raises:
        CheckpointError: the file names anything outside the allow-list; nothing was executed.
        Exception: whatever ``pickle`` raises on bytes that are no pickle.
    """
    # latin1 maps every byte to itself: so Python 2's text gives its bytes back.
    return _Unpickler(file, encoding="latin1").load()
