"""On a CPU, a convolution with the ReLU and the residual sum behind it in one kernel of oneDNN.

Each pass over a large feature map that is spared is memory traffic spared. The kernels are those that
PyTorch's own compiler uses; a build of PyTorch without them fuses nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.resnet import BasicBlock, BasicStem, BottleneckBlock
from models.execution.folding import Undo
from models.layers.conv import Conv2d


def fuse_relus_(model: nn.Module) -> list[Undo]:
    """Fuse the blocks of our ResNets, and our convolutions that end in a ReLU, in place.

    Norms must have been folded: a convolution that still has one stays as it is.

    Returns:
        What undoes it.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(  # type: ignore[no-untyped-call]  # torch's own
        torch.ops.mkldnn, "_convolution_pointwise"
    ):
        return []
    undo: list[Undo] = []
    for module in model.modules():
        fused = _fused_forward(module)
        if fused is not None:
            # On the instance, so that names, parameters and hooks of the module stay what they are.
            module.forward = functools.partial(fused, module)
            undo.append(functools.partial(delattr, module, "forward"))
    return undo


def _fused_forward(module: nn.Module) -> Callable[[Any, Tensor], Tensor] | None:
    kind = type(module)
    if kind is Conv2d:
        is_relu = getattr(module, "activation", None) in (F.relu, F.relu_)
        return _conv if is_relu and _is_plain(module) else None
    forwards: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
        BottleneckBlock: _bottleneck_block,
        BasicBlock: _basic_block,
        BasicStem: _basic_stem,
    }
    if kind in forwards and all(_is_plain(child) for child in module.children()):
        return forwards[kind]
    return None


def _is_plain(module: nn.Module) -> bool:
    return type(module) is Conv2d and module.norm is None and module.padding_mode == "zeros"


def _conv(conv: Conv2d, x: Tensor) -> Tensor:
    return _conv_relu(conv, x) if x.numel() else Conv2d.forward(conv, x)


def _basic_stem(stem: BasicStem, x: Tensor) -> Tensor:
    return F.max_pool2d(_conv_relu(stem.conv1, x), kernel_size=3, stride=2, padding=1)


def _basic_block(block: BasicBlock, x: Tensor) -> Tensor:
    if not x.numel():
        return BasicBlock.forward(block, x)
    shortcut = x if block.shortcut is None else block.shortcut(x)
    return _conv_add_relu(block.conv2, _conv_relu(block.conv1, x), shortcut)


def _bottleneck_block(block: BottleneckBlock, x: Tensor) -> Tensor:
    if not x.numel():  # oneDNN takes no empty batch
        return BottleneckBlock.forward(block, x)
    shortcut = x if block.shortcut is None else block.shortcut(x)
    out = _conv_relu(block.conv2, _conv_relu(block.conv1, x))
    return _conv_add_relu(block.conv3, out, shortcut)


def _conv_relu(conv: Any, x: Tensor) -> Tensor:
    fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x,
        conv.weight,
        conv.bias,
        conv.padding,
        conv.stride,
        conv.dilation,
        conv.groups,
        "relu",
        [],
        "",
    )
    return fused


def _conv_add_relu(conv: Conv2d, x: Tensor, summand: Tensor) -> Tensor:
    fused: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
        x,
        summand,
        conv.weight,
        conv.bias,
        conv.padding,
        conv.stride,
        conv.dilation,
        conv.groups,
        "add",
        1.0,
        "relu",
        [],
        "",
    )
    return fused
