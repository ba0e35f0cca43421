"""Whether a model's weights are numbers at all."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def first_not_finite(model: nn.Module) -> str | None:
    """The name and number format of the first weight that holds NaN or infinity; None: there is none.

    A weight is what a checkpoint holds. What the model's code computes for itself, such as masks of
    attention, may hold infinity, but no NaN.
    """
    stored: dict[str, Tensor] = {
        name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)
    }
    computed = {name: value for name, value in model.named_buffers() if name not in stored}
    flags = [value.isfinite().all() for value in stored.values()]
    flags += [value.isnan().any().logical_not() for value in computed.values()]
    if not flags:
        return None
    sound = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist()  # one wait for a GPU
    for (name, value), is_sound in zip((stored | computed).items(), sound, strict=True):
        if not is_sound:
            return f"{name} ({str(value.dtype).removeprefix('torch.')})"
    return None
