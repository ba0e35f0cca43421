"""Where a model runs."""

from __future__ import annotations

import torch

from models.errors import ModelError


def resolve_device(device: str) -> torch.device:
    """``auto`` (CUDA when a GPU works, else the CPU), ``cpu``, ``cuda`` or ``cuda:n`` as a device.

    Raises:
        ModelError: the name is not one of these, or that GPU is not there.
    """
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        return torch.device("cpu")
    name, _, index = device.partition(":")
    if name != "cuda" or (index and not index.isdigit()):
        raise ModelError(f"Unknown device {device!r}; use auto, cpu, cuda or cuda:0, cuda:1, ...")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        raise ModelError(
            f"Device {device!r} is asked for, but PyTorch sees {count} usable GPU(s). "
            "Use device=auto or cpu, or check the driver with nvidia-smi."
        )
    return torch.device("cuda", int(index or 0))


def use_exact_float32() -> None:
    """Switch TF32 off for convolutions and products: answers then match Detectron2's in float32."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
