"""The deterministic weights of the golden models: a tensor depends on its name and shape alone."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor, nn

NOT_SEEDED = ("anchor_generator.", "pixel_mean", "pixel_std", "num_batches_tracked")


def _gain(name: str, stem_gain: float) -> float:
    """Variance gain of a weight by its place: keeps activations sane and detections diverse."""
    for part, gain in (
        ("stem", stem_gain),
        ("anchor_deltas", 0.0005),
        ("head.bbox_pred", 0.0005),
        ("bbox_pred", 0.05),
        ("objectness", 0.25),
        ("head.cls_score", 0.08),
        ("cls_score", 0.5),
        ("conv_offset", 0.05),
    ):
        if part in name:
            return gain
    return 2.0


def seeded_tensor(
    name: str, shape: torch.Size, seed: int, stem_gain: float, damped: bool
) -> Tensor:
    """One float32 tensor that depends on its name and shape alone."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"{seed}:{name}".encode())))
    x = rng.standard_normal(size=tuple(shape))
    last = name.rsplit(".", 1)[-1]
    if last == "running_mean":
        x = 0.1 * x
    elif last == "running_var":
        x = 0.75 + 0.5 * np.abs(np.tanh(x))
    elif len(shape) == 1 and last == "weight":
        x = (0.2 if damped else 1.0) * (1.0 + 0.1 * np.tanh(x))
    elif len(shape) == 1:
        x = 0.05 * x
    else:
        fan_in = int(np.prod(shape[1:]))
        if "deconv" in name:
            fan_in = int(shape[0] * np.prod(shape[2:])) // 4
        x = x * np.sqrt(_gain(name, stem_gain) / max(fan_in, 1))
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def seeded_state(model: nn.Module, seed: int, stem_gain: float) -> dict[str, Tensor]:
    """Deterministic values for every floating-point tensor of ``model``."""
    state = model.state_dict()
    seeded = {}
    for name, value in state.items():
        if any(part in name for part in NOT_SEEDED) or not torch.is_floating_point(value):
            continue
        last_of_basic = (
            "conv2.norm" in name and name.replace("conv2.norm", "conv3.norm") not in state
        )
        damped = "conv3.norm" in name or "f.c_bn" in name or last_of_basic
        seeded[name] = seeded_tensor(name, value.shape, seed, stem_gain, damped)
    return seeded
