"""Batch norms with fixed statistics become part of the convolution in front of them.

Computed in float64, so that the folded network differs from the other in rounding alone (about 1e-6,
relative). It saves a pass over every feature map.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops.misc import FrozenBatchNorm2d as TorchvisionFrozenBatchNorm2d

from models.backbones import regnet
from models.layers.batch_norm import FrozenBatchNorm2d
from models.layers.conv import Conv2d
from models.layers.deform_conv import DeformConv2d

Undo = Callable[[], None]


def fold_norms_(model: nn.Module) -> list[Undo]:
    """Fold what can be folded, in place; the model must be in evaluation mode.

    Found are the ``norm`` of our own convolutions, and a norm right behind a convolution in a
    ``nn.Sequential``, in our RegNet and in torchvision's networks, whose modules stand in the order
    in which they run. Norms of other people's modules are left as they are.

    Returns:
        For each folded norm what unfolds it.
    """
    if model.training:
        raise ValueError("Norms are folded in evaluation mode only; call model.eval() first.")
    return [_fold(*found) for found in list(_foldable(model))]


def _foldable(model: nn.Module) -> Iterator[tuple[Any, nn.Module, str, Any]]:
    """Convolution, the module that owns its norm, under which name, and the norm."""
    for module in model.modules():
        if isinstance(module, Conv2d | DeformConv2d):
            if _has_fixed_statistics(module.norm):
                yield module, module, "norm", module.norm
        elif _runs_in_order(module):
            children = list(module.named_children())
            for (_, first), (name, second) in itertools.pairwise(children):
                plain = type(first) in (nn.Conv2d, Conv2d) and getattr(first, "norm", None) is None
                if plain and _has_fixed_statistics(second):
                    yield first, module, name, second


def _runs_in_order(module: nn.Module) -> bool:
    if isinstance(module, nn.Sequential):
        return type(module).forward is nn.Sequential.forward
    return type(module).__module__ in (
        regnet.__name__,
        "torchvision.models._utils",
        "torchvision.models.resnet",
    )


def _has_fixed_statistics(norm: nn.Module | None) -> bool:
    if isinstance(norm, _BatchNorm):
        return norm.running_mean is not None
    return isinstance(norm, FrozenBatchNorm2d | TorchvisionFrozenBatchNorm2d)


@torch.no_grad()
def _fold(conv: Any, owner: nn.Module, name: str, norm: Any) -> Undo:
    weight, bias = conv.weight, conv.bias
    scale, shift = _affine(norm)
    folded_bias = shift if bias is None else shift + bias.double() * scale
    folded = weight.double() * scale.view(-1, 1, 1, 1)
    conv.weight = nn.Parameter(folded.to(weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(folded_bias.to(weight.dtype), requires_grad=False)
    setattr(owner, name, None if owner is conv else nn.Identity())

    def undo() -> None:
        conv.weight, conv.bias = weight, bias
        setattr(owner, name, norm)

    return undo


def _affine(norm: Any) -> tuple[Tensor, Tensor]:
    """``y = x * scale + shift`` per channel, float64."""
    scale: Tensor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return scale, shift
