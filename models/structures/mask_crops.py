"""Crops of bit masks on the CPU: RoIAlign of one channel, as two products of matrices.

Bilinear samples on a grid are separable: the mean over a bin's samples is a weighted sum of rows, then
of columns. So the bins of all boxes over one mask are two matrix products on the part of the mask that
the boxes cover. For large boxes that is several times as fast as RoIAlign's kernel, which visits each
sample, and only that part of a mask ever becomes float numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor


def crop_masks(frames: Tensor, index: Tensor, boxes: Tensor, mask_size: int) -> Tensor:
    """What each box sees of its mask, by the rule of RoIAlign (aligned, adaptive sampling).

    Args:
        frames: (G, H, W) bool on the CPU.
        index: (R,) int64, the frame of each box.
        boxes: (R, 4) float32 XYXY in pixels, finite.
        mask_size: side M of a crop.

    Returns:
        (R, M, M) float32: the part of each bin that is foreground.
    """
    height, width = frames.shape[1:]
    rows, row_weights = _taps(boxes[:, 1], boxes[:, 3], mask_size, height)
    columns, column_weights = _taps(boxes[:, 0], boxes[:, 2], mask_size, width)
    crops = boxes.new_empty((len(boxes), mask_size, mask_size))
    order = index.argsort(stable=True)
    used, counts = torch.unique_consecutive(index[order], return_counts=True)
    groups = torch.split(order, counts.tolist())
    for frame, places in zip(used.tolist(), groups, strict=True):
        top, by_rows = _matrices(rows[places], row_weights[places])
        left, by_columns = _matrices(columns[places], column_weights[places])
        bottom, right = top + by_rows.shape[2], left + by_columns.shape[2]
        part = frames[frame, top:bottom, left:right].float()
        crops[places] = (by_rows @ part) @ by_columns.transpose(1, 2)
    # Sums until here, which are whole numbers wherever samples lie on pixels: a share of exactly one
    # half stays so.
    samples = _samples(boxes[:, 0], boxes[:, 2], mask_size) * _samples(
        boxes[:, 1], boxes[:, 3], mask_size
    )
    return crops / samples.clamp(min=1)[:, None, None]


def _samples(low: Tensor, high: Tensor, bins: int) -> Tensor:
    """(R,) int64: samples of a bin along one axis, one for each pixel of it."""
    return (((high - 0.5) - (low - 0.5)) / bins).ceil().long().clamp(min=0)


def _taps(low: Tensor, high: Tensor, bins: int, length: int) -> tuple[Tensor, Tensor]:
    """Along an axis of ``length`` pixels, the pixels that the bins of R boxes read.

    Returns:
        (R, bins, T) int64 pixels, and float32 weights, 0 for what a box with fewer samples leaves over.
    """
    starts = low - 0.5
    bin_sizes = ((high - 0.5) - starts) / bins
    counts = _samples(low, high, bins)
    most = int(counts.max()) if len(counts) else 0
    sample = torch.arange(most)
    last = (counts - 1).clamp(min=0)
    # As RoIAlign's kernel computes it, operation by operation: the rounding decides pixels.
    nth = torch.minimum(sample, last[:, None]) + 0.5
    offsets = nth * bin_sizes[:, None] / counts.clamp(min=1)[:, None]
    edges = starts[:, None] + torch.arange(bins) * bin_sizes[:, None]
    positions = edges[:, :, None] + offsets[:, None, :]
    read = (positions >= -1) & (positions <= length) & (sample < counts[:, None])[:, None]
    positions = positions.clamp(0, length - 1)
    pixels = positions.long()
    fraction = positions - pixels
    weights = torch.stack((1 - fraction, fraction), dim=-1) * read[..., None]
    neighbours = torch.stack((pixels, (pixels + 1).clamp(max=length - 1)), dim=-1)
    return neighbours.flatten(2), weights.flatten(2)


def _matrices(pixels: Tensor, weights: Tensor) -> tuple[int, Tensor]:
    """Taps of n boxes as matrices (n, bins, P) over the P pixels from the returned first one on."""
    if pixels.numel() == 0:
        return 0, weights.new_zeros((*weights.shape[:2], 0))
    first, last = (int(edge) for edge in pixels.aminmax())
    matrices = weights.new_zeros((*weights.shape[:2], last - first + 1))
    return first, matrices.scatter_add_(2, pixels - first, weights)
