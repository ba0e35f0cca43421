"""Deformable convolution, v1 and modulated (v2), over torchvision's operator."""

from __future__ import annotations

import torch
import torchvision.ops
from torch import Tensor, nn


class DeformConv2d(nn.Module):
    """A 3x3 (or other) convolution whose taps move by offsets that are given (Dai et al. 2017).

    There is no bias; a norm may follow, as a submodule ``norm``.
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
        self.norm = norm

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolve.

        Args:
            x: (N, C, H, W).
            offset: (N, 2 * G * kernel^2, H', W'), pairs (y, x) in pixels; G is the number of
                deformable groups.
            mask: (N, G * kernel^2, H', W'), weight of each tap (v2); None is v1.
        """
        out: Tensor = torchvision.ops.deform_conv2d(
            x,
            offset,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=mask,
        )
        return out if self.norm is None else self.norm(out)
