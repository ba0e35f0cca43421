"""Weights files of every kind as one :class:`Checkpoint`; the content decides the kind."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from models.checkpoints import caffe2, torchvision_files, unpickler
from models.errors import CheckpointError

# How the file begins that torch.save wrote before PyTorch 1.6: a pickled magic number.
_LEGACY_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_SAFETENSORS_MAX_HEADER = 100_000_000
_TRAINER_KEYS = {"trainer", "optimizer", "scheduler", "iteration"}
_MAX_NAMES = 5  # how many names an error message lists
# torch.serialization.safe_globals changes a list of the whole process.
_safe_globals_lock = threading.Lock()


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
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a weights file; no code in it runs.

    Raises:
        CheckpointError: it is missing, broken, of a kind that cannot be read, names something that
            is not allowed, or holds NaN or infinite weights.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise CheckpointError(f"{path.name} is a folder. Name the weights file in it.")
        if not path.is_file():
            raise CheckpointError(f"There is no weights file {path.name!r}.")
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
        content, kind = _read(path, head, size_bytes)
        state_dict, kind = _state_dict(content, kind)
        _check_finite(state_dict)
        digest = sha256_of(path)
    except CheckpointError as error:
        if path.name in error.message:
            raise
        message = f"{path.name} cannot be used as weights. {error.message}"
        raise CheckpointError(message, file=path.name, **error.details) from None
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror}.") from None
    return Checkpoint(
        state_dict=state_dict,
        kind=kind,
        matching_heuristics=kind in ("pycls .pyth", "Caffe2 .pkl")
        or (isinstance(content, Mapping) and content.get("matching_heuristics") is True),
        iteration=_iteration(content),
        sha256=digest,
        size_bytes=size_bytes,
    )


def _read(path: Path, head: bytes, size_bytes: int) -> tuple[Any, str]:
    """Returns the file's top-level object and its kind."""
    if not head:
        raise CheckpointError("The file is empty. Was the download or copy cut off?")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            "It is a git-lfs pointer, not the weights themselves. Run `git lfs pull` to get them."
        )
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        raise CheckpointError(
            "It is a web page, not weights. The download probably gave an error page: open the "
            "address in a browser and download the file again."
        )
    if head.startswith(b"PK\x03\x04"):
        return _read_torch(path, mmap=True), "PyTorch .pth"
    if _LEGACY_MAGIC in head[:40]:
        return _read_torch(path, mmap=False), "PyTorch .pth"
    if head[257:262] == b"ustar":
        raise CheckpointError(
            "It is a tar file, as PyTorch before 0.1.10 wrote. Save it again with a newer PyTorch."
        )
    # An 8-byte length and then JSON. No pickle begins so: the length makes zeros of its opcodes.
    if head[8:9] == b"{":
        header_bytes = int.from_bytes(head[:8], "little")
        if 2 <= header_bytes <= _SAFETENSORS_MAX_HEADER:
            return _read_safetensors(path, header_bytes + 8, size_bytes), "safetensors"
    return _read_pickle(path, head), "model zoo .pkl"


def _read_torch(path: Path, *, mmap: bool) -> Any:
    allowed = [(stand_in, name) for name, stand_in in unpickler.ALLOWED.items() if "numpy" in name]
    try:
        # Trainer files hold NumPy scalars (in the state of hooks), which are not on PyTorch's list.
        with _safe_globals_lock, torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except CheckpointError:
        raise
    except Exception as error:  # PyTorch's reader raises nearly anything on a broken file
        refers_to = re.search(r"GLOBAL (\S+)", str(error))
        if refers_to:
            raise unpickler.not_allowed(refers_to[1]) from None
        if "TorchScript" in str(error):
            raise CheckpointError(
                "It is an exported TorchScript program, not a checkpoint. Use the model_final.pth "
                "that training wrote."
            ) from None
        raise CheckpointError(
            "PyTorch cannot read it; it is cut off, damaged or not written by torch.save. Copy or "
            "download it again."
        ) from None


def _read_safetensors(path: Path, header_end: int, size_bytes: int) -> Any:
    if header_end > size_bytes:
        raise CheckpointError("It is a safetensors file that was cut off. Copy it again.")
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, RuntimeError, KeyError):
        raise CheckpointError(
            "It is a safetensors file that is cut off or damaged. Copy or download it again."
        ) from None


def _read_pickle(path: Path, head: bytes) -> Any:
    try:
        with path.open("rb") as file:
            return unpickler.restricted_load(file)
    except CheckpointError:
        raise
    except (pickle.UnpicklingError, EOFError, MemoryError) as error:
        if head[:1] == b"\x80":
            raise CheckpointError(
                f"It is a pickle that is cut off or damaged ({error}). Copy or download it again."
            ) from None
        raise _unknown_kind(head) from None
    except Exception:  # bytes that are no pickle make pickle raise nearly anything
        raise _unknown_kind(head) from None


def _unknown_kind(head: bytes) -> CheckpointError:
    return CheckpointError(
        "It is none of the kinds that are known (.pth, model zoo .pkl, .safetensors); it begins "
        f"with the bytes {head[:8].hex(' ')}."
    )


def _state_dict(content: Any, kind: str) -> tuple[dict[str, torch.Tensor], str]:
    """Finds the weights in the file's object; returns them with the kind made precise."""
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"It holds a {type(content).__name__} where weights by name are expected."
        )
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

    tensors: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        if not isinstance(name, str):
            raise CheckpointError(f"It has weights under {name!r}, which is not a name.")
        tensor = _tensor(name, value)
        if tensor is not None:
            tensors[name] = tensor
    if not tensors:
        names = ", ".join(str(name) for name in list(content)[:_MAX_NAMES])
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
    if isinstance(value, np.generic):
        return torch.as_tensor(value.item())
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise CheckpointError(f"Its tensor {name} is sparse, quantised or complex.")
        if value.device.type != "cpu":
            raise CheckpointError(f"Its tensor {name} has no content (device {value.device}).")
        # A tiny file can claim a huge tensor by repeating one element.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(f"Its tensor {name} claims more elements than the file holds.")
        tensor: torch.Tensor = value.detach()
        return tensor
    # If the model does want it, the strict check says that it is missing.
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return None
    if isinstance(value, Mapping | list | tuple) and not value:
        return None
    raise CheckpointError(
        f"Its entry {name} is a {type(value).__name__}, not a tensor. Save the weights alone: "
        "torch.save({'model': model.state_dict()}, 'model_final.pth')."
    )


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
    return value if isinstance(value, int) and not isinstance(value, bool) else None
