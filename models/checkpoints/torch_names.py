"""What the names in a file of ``torch.save`` stand for: tensors that only say what they claim.

A tensor is read from the file when it is known to be a weight and its claims fit its storage; the
rest of a trainer's file, such as the optimiser's state, is never read. Names are those that
``torch.load(weights_only=True)`` knows.
"""

from __future__ import annotations

from typing import Any

import torch

from models.checkpoints.pickle_values import Budget, Build, Named, Opaque
from models.checkpoints.torch_storages import Storage, TensorClaim
from models.checkpoints.unpickler import ALLOWED
from models.errors import CheckpointError

_MAX_DIMENSIONS = 64
_MAX_SIDE = 1 << 62
_MAX_KEY = 256  # characters
_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "QInt8": torch.qint8,
    "QInt32": torch.qint32,
    "QUInt8": torch.quint8,
    "QUInt4x2": torch.quint4x2,
    "QUInt2x4": torch.quint2x4,
}


def dtype_of(value: object) -> torch.dtype:
    """The type of elements that a name such as torch.FloatStorage or torch.uint16 stands for."""
    build = value.build if isinstance(value, Named) else None
    if not isinstance(build, _TypeName):
        raise CheckpointError("The file describes the type of a tensor in an unknown way.")
    return build.dtype


def is_count(value: object) -> bool:
    """Whether it is a whole number that sizes and offsets may be."""
    return type(value) is int and 0 <= value < _MAX_SIDE


def parse_storage_id(pid: object) -> tuple[torch.dtype, str, int]:
    """Type of elements, key and number of elements, out of a storage's persistent id."""
    if (
        not isinstance(pid, tuple)
        or len(pid) not in (5, 6)
        or pid[0] not in ("storage", b"storage")
    ):
        raise CheckpointError("The file refers to something else than a storage.")
    _, kind, key, _, numel, *view = pid
    if not isinstance(key, str) or len(key) > _MAX_KEY or not is_count(numel):
        raise CheckpointError("The file describes a storage in an unknown way.")
    if view and view[0] is not None:
        raise CheckpointError(
            "It has storages within storages, as PyTorch before 0.4 wrote. Save it again with a "
            "newer PyTorch."
        )
    return dtype_of(kind), key, numel


class _TypeName:
    """A type of elements, or a storage of it: a file may name one and not call it."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, budget: Budget, *arguments: object) -> Any:
        raise CheckpointError("The file makes a storage without content.")


def _claim(dtype: torch.dtype, storage: Storage, offset: Any, shape: Any, stride: Any) -> Any:
    for numbers in (shape, stride):
        if (
            not isinstance(numbers, tuple)
            or len(numbers) > _MAX_DIMENSIONS
            or not all(map(is_count, numbers))
        ):
            raise CheckpointError("The file has a tensor with impossible sides or strides.")
    if not is_count(offset) or len(shape) != len(stride):
        raise CheckpointError("The file has a tensor with impossible sides or strides.")
    return TensorClaim(storage, dtype, offset, shape, stride)


def _rebuild(
    budget: Budget,
    storage: object,
    offset: object,
    shape: object,
    stride: object,
    requires_grad: object = False,
    hooks: object = None,
    metadata: object = None,
) -> Any:
    if not isinstance(storage, Storage):
        raise CheckpointError("The file has a tensor without a storage.")
    if metadata:
        return Opaque("tensor with a conjugate or negative bit")
    return _claim(storage.dtype, storage, offset, shape, stride)


def _rebuild_v3(
    budget: Budget,
    storage: object,
    offset: object,
    shape: object,
    stride: object,
    requires_grad: object,
    hooks: object,
    dtype: object,
    metadata: object = None,
) -> Any:
    if not isinstance(storage, Storage):
        raise CheckpointError("The file has a tensor without a storage.")
    if metadata:
        return Opaque("tensor with a conjugate or negative bit")
    return _claim(dtype_of(dtype), storage, offset, shape, stride)


def _first(budget: Budget, value: object = None, *rest: object) -> object:
    """Stands in for what wraps a tensor, such as a parameter."""
    if not isinstance(value, TensorClaim | Opaque):
        raise CheckpointError("The file has a parameter without a tensor.")
    return value


def _from_type(
    budget: Budget, rebuild: object, kind: object, arguments: object, state: object
) -> object:
    """Stands in for what makes a tensor with attributes; they are dropped."""
    build = rebuild.build if isinstance(rebuild, Named) else None
    for known in (_rebuild, _rebuild_v3, _first):
        if build is known and isinstance(arguments, tuple):
            return known(budget, *arguments)
    raise CheckpointError("The file describes a tensor in an unknown way.")


def _opaque(kind: str) -> Build:
    def build(budget: Budget, *arguments: object) -> Opaque:
        return Opaque(kind)

    return build


def _not_called(kind: str) -> Build:
    def build(budget: Budget, *arguments: object) -> Opaque:
        raise CheckpointError(f"The file makes a {kind} without content.")

    return build


def _size(budget: Budget, sides: object = ()) -> object:
    return sides if isinstance(sides, tuple) else Opaque("size")


def _counter(budget: Budget, content: object = None) -> Any:
    return ALLOWED["collections.OrderedDict"](budget, {} if content is None else content)


def _names() -> dict[str, Build]:
    names: dict[str, Build] = dict(ALLOWED)
    dtypes = [value for value in vars(torch).values() if isinstance(value, torch.dtype)]
    names |= {str(dtype): _TypeName(dtype) for dtype in dtypes}
    for name, dtype in _STORAGES.items():
        for module in ("torch", "torch.cuda"):
            names[f"{module}.{name}Storage"] = _TypeName(dtype)
            if not name.startswith("Q"):
                names[f"{module}.{name}Tensor"] = _not_called("tensor")
    for module in ("torch", "torch.storage"):
        names[f"{module}.UntypedStorage"] = _TypeName(torch.uint8)
    for module in ("builtins", "__builtin__"):
        for name in ("set", "frozenset", "bytearray", "complex"):
            names[f"{module}.{name}"] = _opaque(name)
    for scheme in ("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric"):
        names[f"torch.per_{scheme}"] = _opaque("quantisation")
    names["torch.per_channel_affine_float_qparams"] = _opaque("quantisation")
    for kind in ("sparse_", "nested_", "q"):
        names[f"torch._utils._rebuild_{kind}tensor"] = _opaque("sparse, quantised or nested tensor")
    for name in ("_rebuild_wrapper_subclass", "_rebuild_device_tensor_from_numpy"):
        names[f"torch._utils.{name}"] = _opaque("sparse, quantised or nested tensor")
    return names | {
        "collections.Counter": _counter,
        "torch.Size": _size,
        "torch.device": _opaque("device"),
        "torch.serialization._get_layout": _opaque("layout"),
        "torch.Tensor": _not_called("tensor"),
        "torch.nn.parameter.Parameter": _first,
        "torch._utils._rebuild_tensor": _rebuild,
        "torch._utils._rebuild_tensor_v2": _rebuild,
        "torch._utils._rebuild_tensor_v3": _rebuild_v3,
        "torch._utils._rebuild_parameter": _first,
        "torch._utils._rebuild_parameter_with_state": _first,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
        "torch._utils._rebuild_meta_tensor_no_storage": _opaque("tensor without content"),
        "torch._tensor._rebuild_from_type_v2": _from_type,
        "torch.tensor._rebuild_from_type_v2": _from_type,
    }


TORCH_NAMES = _names()
