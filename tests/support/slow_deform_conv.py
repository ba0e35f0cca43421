"""Deformable convolution by its definition, one tap at a time."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    """Between four pixels; everything outside of the plane is 0."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * plane[row, column]
    return total


def slow_deform_conv(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Dai et al. 2017, eq. 2; Zhu et al. 2018, eq. 1 with a mask. Offsets are pairs (y, x)."""
    images, channels, _, _ = x.shape
    out_channels, per_group, kernel, _ = weight.shape
    rows, columns = offset.shape[-2:]
    output = torch.zeros(images, out_channels, rows, columns, dtype=torch.float64)
    for n, o, i, j in np.ndindex(images, out_channels, rows, columns):
        first = o // (out_channels * per_group // channels) * per_group  # of its group
        for c, a, b in np.ndindex(per_group, kernel, kernel):
            deform_group = (first + c) // (channels // deform_groups)
            tap = deform_group * kernel**2 + a * kernel + b
            y = i * stride - padding + a * dilation + float(offset[n, 2 * tap, i, j])
            position = j * stride - padding + b * dilation + float(offset[n, 2 * tap + 1, i, j])
            value = bilinear(x[n, first + c].double().numpy(), y, position)
            factor = 1.0 if mask is None else float(mask[n, tap, i, j])
            output[n, o, i, j] += float(weight[o, c, a, b]) * value * factor
    return output.float()
