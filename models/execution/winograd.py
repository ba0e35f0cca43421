"""3x3 convolutions with a quarter of the products (Winograd 1980; Lavin & Gray 2016), on a CPU.

A tile of 6x6 pixels gives 4x4 outputs: transformed, it takes 36 products for each pair of channels
where the sum over the window takes 144. The transforms are matrix products too, over some hundred
tiles at a time so that they stay in the cache. In float32 the result is nearly as exact as the plain
sum (rounding 9e-7 of the outputs' scale instead of 5e-7), thanks to the points below.

Worth it for wide layers on large maps: pyramid outputs, the RPN, mask heads, dense heads. Narrow ones
are bound by memory, and very wide ones would hold too many transformed weights (four times as many).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.execution.folding import Undo
from models.layers import CNNBlockBase
from models.layers.conv import Conv2d

_OUTPUTS = 4
_TAPS = 3
_TILE = _OUTPUTS + _TAPS - 1
# Where the polynomials are evaluated, besides infinity; these round less than 0, ±1, ±2.
_POINTS = (0.0, -1.0, 1.0, 0.5, -2.0)

_TILES_AT_A_TIME = 256
_MIN_TILES = 128
_MIN_CHANNELS, _MAX_CHANNELS = 128, 256


def use_winograd_(model: nn.Module) -> list[Undo]:
    """Let the wide 3x3 convolutions outside of residual blocks take fewer products, in place.

    Inputs that are small, of another type or another layout go the usual way.

    Returns:
        What undoes it.
    """
    return [_replace(conv) for conv in list(_eligible(model))]


def _eligible(model: nn.Module) -> Iterator[nn.Conv2d]:
    in_blocks = {
        id(part)
        for block in model.modules()
        if isinstance(block, CNNBlockBase)
        for part in block.modules()
    }
    for module in model.modules():
        if type(module) not in (nn.Conv2d, Conv2d) or id(module) in in_blocks:
            continue
        conv: Any = module
        channels = (conv.in_channels, conv.out_channels)
        if (
            conv.kernel_size == (_TAPS, _TAPS)
            and conv.stride == conv.dilation == (1, 1)
            and conv.padding == (1, 1)
            and conv.groups == 1
            and conv.padding_mode == "zeros"
            and _MIN_CHANNELS <= min(channels) <= max(channels) <= _MAX_CHANNELS
            and getattr(conv, "norm", None) is None
            and conv.weight.device.type == "cpu"
            and conv.weight.dtype == torch.float32
        ):
            yield conv


def _replace(conv: nn.Conv2d) -> Undo:
    direct: Callable[[Tensor], Tensor] = conv.forward
    fused = vars(conv).get("forward")
    activation = getattr(conv, "activation", None)
    weight = _transformed_weight(conv.weight)

    def forward(x: Tensor) -> Tensor:
        number, _, height, width = x.shape
        if (
            number * -(-height // _OUTPUTS) * -(-width // _OUTPUTS) < _MIN_TILES
            or x.dtype != torch.float32
            or not x.is_contiguous(memory_format=torch.channels_last)
            or torch.is_grad_enabled()
        ):
            return direct(x)
        out = convolve(x, weight, conv.bias, relu=activation in (F.relu, F.relu_))
        return out if activation in (None, F.relu, F.relu_) else activation(out)

    # On the instance, so that names, parameters and hooks of the module stay what they are.
    conv.forward = forward  # type: ignore[assignment,method-assign]  # see above

    def undo() -> None:
        del conv.forward
        if fused is not None:
            conv.forward = fused  # type: ignore[method-assign]  # likewise

    return undo


@functools.cache
def _matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Transforms of a line of inputs (6, 6), of weights (6, 3), and of products (4, 6); float64.

    Cook and Toom: evaluate both polynomials at the points, multiply, interpolate; transposed.
    """
    points = torch.tensor(_POINTS, dtype=torch.float64)
    inputs = torch.zeros(_TILE, _TILE, dtype=torch.float64)
    weights = torch.zeros(_TILE, _TAPS, dtype=torch.float64)
    outputs = torch.zeros(_OUTPUTS, _TILE, dtype=torch.float64)
    for i, point in enumerate(points):
        others = torch.cat((points[:i], points[i + 1 :]))
        inputs[i, : _TILE - 1] = _with_roots(others)
        weights[i] = point ** torch.arange(_TAPS) / (point - others).prod()
        outputs[:, i] = point ** torch.arange(_OUTPUTS)
    inputs[-1] = _with_roots(points)
    weights[-1, -1] = outputs[-1, -1] = 1
    return inputs, weights, outputs


def _with_roots(roots: Tensor) -> Tensor:
    """Coefficients of the polynomial with these roots, the constant first."""
    polynomial = torch.ones(1, dtype=torch.float64)
    for root in roots:
        polynomial = F.pad(polynomial, (1, 0)) - root * F.pad(polynomial, (0, 1))
    return polynomial


@torch.no_grad()
def _transformed_weight(weight: Tensor) -> Tensor:
    """(K, C, 3, 3) -> (36, C, K)."""
    _, transform, _ = _matrices()
    lines = torch.einsum("ia,kcab,jb->ijck", transform, weight.double(), transform)
    return lines.flatten(0, 1).to(weight.dtype).contiguous()


@functools.cache
def _both_ways() -> tuple[Tensor, Tensor]:
    """The transforms of a whole tile: of inputs (36, 36), of products (16, 36); float32."""
    inputs, _, outputs = _matrices()
    return torch.kron(inputs, inputs).float(), torch.kron(outputs, outputs).float()


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool = False) -> Tensor:
    """A 3x3 convolution of stride 1 and padding 1.

    Args:
        x: (N, C, H, W) float32, channels-last.
        weight: (36, C, K), of :func:`_transformed_weight`.
        bias: (K,), or None.
        relu: whether negative outputs become 0.

    Returns:
        (N, K, H, W), channels-last.
    """
    number, _, height, width = x.shape
    into, back = _both_ways()
    rows, columns = -(-height // _OUTPUTS), -(-width // _OUTPUTS)
    filters = weight.shape[2]
    out = x.new_empty((number, rows * _OUTPUTS, columns * _OUTPUTS, filters))
    windows = out.view(number, rows, _OUTPUTS, columns, _OUTPUTS, filters).permute(2, 4, 0, 1, 3, 5)
    pixels = x.permute(0, 2, 3, 1)
    for images, first, last in _parts(number, rows, columns):
        taken = _tiles(pixels[images], first, last, columns).reshape(_TILE**2, -1)
        products = torch.bmm((into @ taken).view(_TILE**2, -1, pixels.shape[3]), weight)
        target = windows[:, :, images, first:last]
        values = (back @ products.view(_TILE**2, -1)).view(target.shape)
        if bias is not None:
            values += bias
        target.copy_(values.relu_() if relu else values)
    return out[:, :height, :width].permute(0, 3, 1, 2)


def _tiles(pixels: Tensor, first: int, last: int, columns: int) -> Tensor:
    """Tiles of some rows of tiles, with zeros around the image.

    Args:
        pixels: (N, H, W, C).
        first, last: rows of tiles, the last one excluded.
        columns: tiles in a row.

    Returns:
        (6, 6, N, last - first, columns, C), a view: neighbours overlap by two pixels.
    """
    number, height, width, channels = pixels.shape
    top, bottom = first * _OUTPUTS - 1, last * _OUTPUTS + 1
    margin = (0, 0, 1, columns * _OUTPUTS + 1 - width, max(0, -top), max(0, bottom - height))
    padded = F.pad(pixels[:, max(0, top) : bottom], margin)
    image, line, pixel, _ = padded.stride()
    return padded.as_strided(
        (_TILE, _TILE, number, last - first, columns, channels),
        (line, pixel, image, line * _OUTPUTS, pixel * _OUTPUTS, 1),
    )


def _parts(number: int, rows: int, columns: int) -> Iterator[tuple[slice, int, int]]:
    """Images and rows of tiles (first, and last excluded) that are worked on together."""
    if rows * columns < _TILES_AT_A_TIME:
        images = max(1, _TILES_AT_A_TIME // (rows * columns))
        for i in range(0, number, images):
            yield slice(i, i + images), 0, rows
        return
    at_a_time = max(1, _TILES_AT_A_TIME // columns)
    for i in range(number):
        for row in range(0, rows, at_a_time):
            yield slice(i, i + 1), row, min(row + at_a_time, rows)
