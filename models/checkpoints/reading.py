"""Weights files of every kind as one :class:`Checkpoint`; the content decides the kind."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import re
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from models.checkpoints import caffe2, torchvision_files, unpickler
from models.checkpoints.pickle_values import Opaque
from models.checkpoints.torch_legacy import LEGACY_MAGIC, read_torch_legacy
from models.checkpoints.torch_storages import TensorClaim
from models.checkpoints.torch_zip import read_torch_zip
from models.errors import CheckpointError
from models.files import NotRegularError, open_regular

MAX_BYTES = 32 << 30  # three times the largest checkpoint, with its optimiser, of Detectron2's kind
_MAX_TENSORS = 50_000
# Tensors may share what is stored, but to check them takes time for each of them.
_MAX_SHARING = 16
_SAFETENSORS_MAX_HEADER = 16 << 20
_DTYPES = frozenset(
    (
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz,
        torch.bool, torch.int8, torch.int16, torch.int32, torch.int64,
        torch.uint8, torch.uint16, torch.uint32, torch.uint64,
    )
)  # fmt: skip
_TRAINER_KEYS = {"trainer", "optimizer", "scheduler", "iteration"}
_MAX_NAMES = 5  # how many names an error message lists
_MAX_SHOWN = 80  # characters of a name in one


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a weights file holds.

    Attributes:
        state_dict: tensors on the CPU by name, all finite, in the file's dtypes.
        kind: "trainer .pth", "PyTorch .pth", "pycls .pyth", "model zoo .pkl", "Caffe2 .pkl" (its
            names and classes converted to ours) or "safetensors".
        matching_heuristics: its names are short ones, to be matched by suffix.
        iteration: the training step it was saved at, where the file says so.
        sha256: hexadecimal digest of the file.
        size_bytes: size of the file.
    """

    state_dict: dict[str, torch.Tensor]
    kind: str
    matching_heuristics: bool
    iteration: int | None
    sha256: str
    size_bytes: int


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file.

    Raises:
        OSError: the file cannot be read, or is no regular one.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a weights file; no code in it runs.

    It takes about the memory of the weights themselves, for a .pkl and for safetensors twice that.

    Raises:
        CheckpointError: it is missing, broken, of a kind that cannot be read, changes meanwhile,
            names something that is not allowed, or holds NaN or infinite weights.
    """
    path = Path(path)
    try:
        with _open(path) as file:
            return _read_open(file)
    except CheckpointError as error:
        if path.name in error.message:
            raise
        message = f"{path.name} cannot be used as weights. {error.message}"
        raise CheckpointError(message, file=path.name, **error.details) from None
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror}.") from None
    except MemoryError:
        raise CheckpointError(f"There is not enough memory to read {path.name}.") from None


def _open(path: Path) -> BufferedReader:
    try:
        return open_regular(path)
    except NotRegularError as error:
        if path.is_dir():
            raise CheckpointError(
                f"{path.name} is a folder. Name the weights file in it."
            ) from None
        raise CheckpointError(
            f"{path.name} cannot be used as weights: {error.strerror}. Name a regular file."
        ) from None
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise CheckpointError(f"There is no weights file {path.name!r}.") from None


def _read_open(file: BufferedReader) -> Checkpoint:
    before = os.fstat(file.fileno())
    size_bytes = before.st_size
    if not size_bytes:
        raise CheckpointError("The file is empty. Was the download or copy cut off?")
    if size_bytes > MAX_BYTES:
        raise CheckpointError(
            f"It has {size_bytes} bytes, which is over the limit of {MAX_BYTES}. Save the weights "
            "alone: torch.save({'model': model.state_dict()}, 'model_final.pth')."
        )
    content, kind = _read(file, file.read(512), size_bytes)
    state_dict, kind = _state_dict(content, kind, size_bytes)
    _check_finite(state_dict)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (size_bytes, before.st_mtime_ns):
        raise CheckpointError("It changed while it was read. Wait until it is written; try again.")
    return Checkpoint(
        state_dict=state_dict,
        kind=kind,
        matching_heuristics=kind in ("pycls .pyth", "Caffe2 .pkl")
        or (isinstance(content, Mapping) and content.get("matching_heuristics") is True),
        iteration=_iteration(content),
        sha256=digest,
        size_bytes=size_bytes,
    )


def _read(file: BufferedReader, head: bytes, size_bytes: int) -> tuple[Any, str]:
    """Returns the file's top-level object and its kind."""
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            "It is a git-lfs pointer, not the weights themselves. Run `git lfs pull` to get them."
        )
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        raise CheckpointError(
            "It is a web page, not weights. The download probably gave an error page: open the "
            "address in a browser and download the file again."
        )
    if head[257:262] == b"ustar":
        raise CheckpointError(
            "It is a tar file, as PyTorch before 0.1.10 wrote. Save it again with a newer PyTorch."
        )
    # An 8-byte length and then JSON. No pickle begins so: the length makes zeros of its opcodes.
    if head[8:9] == b"{":
        header_bytes = int.from_bytes(head[:8], "little")
        if 2 <= header_bytes <= _SAFETENSORS_MAX_HEADER:
            return _read_safetensors(file, header_bytes + 8, size_bytes), "safetensors"
    try:
        if head.startswith(b"PK\x03\x04"):
            return read_torch_zip(file, size_bytes), "PyTorch .pth"
        if LEGACY_MAGIC in head[:40]:
            return read_torch_legacy(file, size_bytes), "PyTorch .pth"
        return unpickler.restricted_load(file), "model zoo .pkl"
    except pickle.UnpicklingError as error:
        if not head.startswith((b"\x80", b"PK\x03\x04")):
            raise _unknown_kind(head) from None
        raise CheckpointError(
            f"Its pickle is cut off or damaged ({error}). Copy or download it again."
        ) from None


def _read_safetensors(file: BufferedReader, header_end: int, size_bytes: int) -> Any:
    if header_end > size_bytes:
        raise CheckpointError("It is a safetensors file that was cut off. Copy it again.")
    file.seek(0)
    try:
        # Not mapped into memory: whoever cuts a mapped file short ends this process.
        return safetensors.torch.load(file.read())
    except (safetensors.SafetensorError, ValueError, RuntimeError, KeyError):
        raise CheckpointError(
            "It is a safetensors file that is cut off or damaged. Copy or download it again."
        ) from None


def _unknown_kind(head: bytes) -> CheckpointError:
    return CheckpointError(
        "It is none of the kinds that are known (.pth, model zoo .pkl, .safetensors); it begins "
        f"with the bytes {head[:8].hex(' ')}."
    )


def _state_dict(content: Any, kind: str, size_bytes: int) -> tuple[dict[str, torch.Tensor], str]:
    """Finds the weights in the file's object; returns them with the kind made precise."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"It holds a {_kind_of(content)} where weights by name are expected.")
    weights: Mapping[Any, Any] = content
    for key in ("model", "model_state", "state_dict"):
        if isinstance(content.get(key), Mapping):
            weights = content[key]
            break
    else:
        key = ""
        if caffe2.looks_like_caffe2(content):
            kind = "Caffe2 .pkl"
            weights = _blobs(content)
    if key == "model_state":
        kind = "pycls .pyth"
    elif kind == "PyTorch .pth" and key and _TRAINER_KEYS & set(content):
        kind = "trainer .pth"

    if len(weights) > _MAX_TENSORS:
        raise CheckpointError(f"It has {len(weights)} weights, more than {_MAX_TENSORS}.")
    tensors: dict[str, torch.Tensor] = {}
    claimed_bytes = 0
    for name, value in weights.items():
        if not isinstance(name, str):
            raise CheckpointError(
                f"It has weights under {str(name)[:_MAX_SHOWN]}, which is not a name."
            )
        tensor = _tensor(name, value)
        if tensor is not None:
            tensors[name] = tensor
            claimed_bytes += tensor.nbytes
            if claimed_bytes > _MAX_SHARING * size_bytes:
                raise CheckpointError("Its tensors together claim far more than the file holds.")
    if not tensors:
        names = ", ".join(str(name)[:_MAX_SHOWN] for name in list(content)[:_MAX_NAMES])
        raise CheckpointError(f"It holds no weights; its top level has: {names or 'nothing'}.")
    if kind == "Caffe2 .pkl":
        return caffe2.convert(tensors), kind
    # What DataParallel and DistributedDataParallel put before every name.
    while all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return torchvision_files.canonical_names(tensors), kind


def _blobs(content: Mapping[Any, Any]) -> dict[Any, Any]:
    """What of a Caffe2 file are weights of the network."""
    blobs = content.get("blobs", content)
    if not isinstance(blobs, Mapping):
        raise CheckpointError(f"Its blobs are a {type(blobs).__name__}, not arrays by name.")
    return {k: v for k, v in blobs.items() if not isinstance(k, str) or caffe2.is_weight(k)}


def _tensor(name: str, value: Any) -> torch.Tensor | None:
    """One entry as a dense CPU tensor; None for numbers and text, which are no weights."""
    if isinstance(value, unpickler.PickledArray):
        if value.array is None:
            raise CheckpointError(f"It names the array {name} and does not give its content.")
        return torch.from_numpy(value.array)
    if isinstance(value, torch.Tensor | TensorClaim):
        if value.dtype not in _DTYPES:
            raise CheckpointError(
                f"Its tensor {name} is quantised, complex or of another odd type."
            )
        return value if isinstance(value, torch.Tensor) else value.tensor(name)
    if isinstance(value, Opaque):
        raise CheckpointError(f"Its tensor {name} is a {value.kind}, which cannot be a weight.")
    # If the model does want it, the strict check says that it is missing.
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return None
    if isinstance(value, Mapping | list | tuple) and not value:
        return None
    raise CheckpointError(
        f"Its entry {name} is a {_kind_of(value)}, not a tensor. Save the weights alone: "
        "torch.save({'model': model.state_dict()}, 'model_final.pth')."
    )


def _kind_of(value: object) -> str:
    if isinstance(value, Opaque):
        return value.kind
    plain = value is None or isinstance(value, str | bytes | int | float | list | tuple | dict)
    return type(value).__name__ if plain else "tensor" if _is_tensor(value) else "name"


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor | TensorClaim | unpickler.PickledArray)


def _check_finite(state_dict: Mapping[str, torch.Tensor]) -> None:
    bad = [
        name
        for name, tensor in state_dict.items()
        if tensor.is_floating_point() and not bool(_widened(tensor).isfinite().all())
    ]
    if bad:
        more = f" and {len(bad) - _MAX_NAMES} more" if len(bad) > _MAX_NAMES else ""
        raise CheckpointError(
            f"It has NaN or infinite weights in {', '.join(bad[:_MAX_NAMES])}{more}: the training "
            "diverged. Use an earlier checkpoint.",
            not_finite=bad,
        )


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.element_size() == 1 else tensor  # 8-bit floats lack isfinite


def _iteration(content: Any) -> int | None:
    value = content.get("iteration") if isinstance(content, Mapping) else None
    return value if type(value) is int and 0 <= value < 1 << 63 else None
