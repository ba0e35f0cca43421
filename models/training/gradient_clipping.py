"""Clipping gradients as SOLVER.CLIP_GRADIENTS says, and their norm before it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from models.config import Config
from models.errors import ConfigError

CLIP_TYPES = ("value", "norm", "full_model")


def clip_gradients_(parameters: Iterable[Tensor], cfg: Config) -> Tensor:
    """Clips the gradients in place, if CLIP_GRADIENTS.ENABLED; measures them in any case.

    CLIP_TYPE ``value`` bounds each element by CLIP_VALUE, ``norm`` the NORM_TYPE norm of each
    parameter's gradient **on its own** (Detectron2 clips per parameter), ``full_model`` the norm of
    all of them together (as Detectron2's projects do). With AMP, unscale the gradients first.

    Args:
        parameters: what trains; those without a gradient are passed over.
        cfg: the root of the config.

    Returns:
        Scalar on the gradients' device: the NORM_TYPE norm of all gradients together, before
        clipping. Not finite where a gradient is not; nothing waits for the device.

    Raises:
        ConfigError: CLIP_TYPE is not known, or CLIP_VALUE or NORM_TYPE is not above 0.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    _check(clip)
    norm_type, limit = float(clip.NORM_TYPE), float(clip.CLIP_VALUE)
    clipped = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in clipped if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = torch.stack(torch._foreach_norm(gradients, norm_type))
    total: Tensor = torch.linalg.vector_norm(norms, norm_type)
    if not clip.ENABLED:
        return total
    if clip.CLIP_TYPE == "value":
        torch.nn.utils.clip_grad_value_(clipped, limit)
    elif clip.CLIP_TYPE == "full_model":
        torch.nn.utils.clip_grads_with_norm_(clipped, limit, total)
    else:
        # 1e-6 as in torch.nn.utils.clip_grad_norm_, which Detectron2 calls on each parameter.
        factors = (limit / (norms + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, list(factors.unbind()))
    return total


def _check(clip: Config) -> None:
    if clip.CLIP_TYPE not in CLIP_TYPES:
        known = ", ".join(CLIP_TYPES)
        raise ConfigError(f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clip.CLIP_TYPE!r}; known: {known}.")
    for key in ("CLIP_VALUE", "NORM_TYPE"):
        if not clip[key] > 0:
            raise ConfigError(f"SOLVER.CLIP_GRADIENTS.{key} is {clip[key]}; it must be above 0.")
