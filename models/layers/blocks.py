"""The base of the blocks that backbone stages are made of."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from models.layers.batch_norm import FrozenBatchNorm2d


def frozen_batch_norms(module: nn.Module) -> nn.Module:
    """``module`` with every batch norm below it replaced by a :class:`FrozenBatchNorm2d`, in place.

    Returns the replacement when ``module`` itself is a batch norm.
    """
    if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
        frozen = FrozenBatchNorm2d(module.num_features, module.eps)
        if module.running_mean is None or module.running_var is None:
            raise ValueError("A batch norm without running statistics cannot be frozen.")
        frozen.running_mean.copy_(module.running_mean)
        frozen.running_var.copy_(module.running_var)
        if module.affine:
            frozen.weight.copy_(module.weight.detach())
            frozen.bias.copy_(module.bias.detach())
        return frozen
    for name, child in module.named_children():
        replaced = frozen_batch_norms(child)
        if replaced is not child:
            setattr(module, name, replaced)
    return module


class CNNBlockBase(nn.Module):
    """A block that maps (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Subclasses compute the block."""
        raise NotImplementedError

    def freeze(self) -> Self:
        """Make the block untrainable: parameters without gradient, batch norms frozen."""
        for parameter in self.parameters():
            parameter.requires_grad = False
        frozen_batch_norms(self)
        return self
