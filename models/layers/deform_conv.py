"""Deformable convolution, v1 and modulated (v2), over torchvision's operator."""

from __future__ import annotations

import torch
import torchvision.ops
from torch import Tensor, nn


class DeformConv2d(nn.Module):
    """A 3x3 (or other) convolution whose taps move by offsets that are given (Dai et al. 2017).

    There is no bias, unless a norm was folded into one; a norm may follow, as a submodule ``norm``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = stride, padding, dilation
        shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        self.register_parameter("bias", None)
        self.norm = norm

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolve.

        Args:
            x: (N, C, H, W).
            offset: (N, 2 * G * kernel^2, H', W'), pairs (y, x) in pixels; G is the number of
                deformable groups.
            mask: (N, G * kernel^2, H', W'), weight of each tap (v2); None is v1.

        Inputs of half precision are computed in that of the weight: a position needs it.
        """
        precise = self.weight.dtype
        out: Tensor = torchvision.ops.deform_conv2d(
            x.to(precise),
            offset.to(precise),
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=None if mask is None else mask.to(precise),
        )
        if self.norm is not None:
            out = self.norm(out)
        return out.to(x.dtype)
