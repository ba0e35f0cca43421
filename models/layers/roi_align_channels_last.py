"""RoIAlign of channels-last feature maps on the CPU: weighted sums of whole pixels.

torchvision's kernel wants (N, C, H, W) contiguous and walks it channel by channel. A channels-last
map is a table of H x W rows with C numbers each, a bin is a weighted sum of a few rows, and
``embedding_bag`` computes just that: four times as fast, equal up to the order of the additions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ENTRIES = 1_000_000
"""Rows that are summed at a time; their numbers and weights take 12 bytes each."""


def roi_align_channels_last(
    features: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """What ``torchvision.ops.roi_align`` gives, in channels-last memory.

    Args:
        features: (N, C, H, W) float32 on the CPU, in channels-last memory.
        rois: (M, 5) float32: index of the image, then x1, y1, x2, y2 in image pixels.
        output_size, spatial_scale, sampling_ratio, aligned: see :class:`models.layers.roi_align.ROIAlign`.

    Returns:
        (M, C, height, width) float32.
    """
    channels, height, width = features.shape[1:]
    table = features.permute(0, 2, 3, 1).reshape(-1, channels)
    bins_y, bins_x = output_size
    pooled = table.new_empty((len(rois), bins_y, bins_x, channels))
    starts, bin_sizes = _bins(rois[:, 1:], output_size, spatial_scale, aligned)
    if sampling_ratio > 0:
        samples = torch.full_like(bin_sizes, sampling_ratio).long()
    else:
        samples = torch.nan_to_num(bin_sizes).ceil().long()
    first_rows = rois[:, 0].long() * (height * width)
    # RoIs with as many samples to a bin go together. Few counts occur: a pyramid sees to that.
    for count_x, count_y in torch.unique(samples, dim=0).tolist():
        alike = ((samples[:, 0] == count_x) & (samples[:, 1] == count_y)).nonzero().flatten()
        if count_x < 1 or count_y < 1:  # a box without a side: nothing is sampled
            pooled[alike] = 0
            continue
        entries = bins_y * bins_x * 4 * count_x * count_y
        for index in alike.split(max(1, MAX_ENTRIES // entries)):
            columns, weights_x = _taps(
                starts[index, 0], bin_sizes[index, 0], bins_x, count_x, width
            )
            rows, weights_y = _taps(starts[index, 1], bin_sizes[index, 1], bins_y, count_y, height)
            rows = rows * width + first_rows[index, None, None]
            taps = rows[:, :, None, :, None] + columns[:, None, :, None, :]
            weights = weights_y[:, :, None, :, None] * weights_x[:, None, :, None, :]
            sums = F.embedding_bag(
                taps.flatten(3).flatten(0, 2),
                table,
                per_sample_weights=weights.flatten(3).flatten(0, 2),
                mode="sum",
            )
            pooled[index] = sums.view(len(index), bins_y, bins_x, channels)
    return pooled.permute(0, 3, 1, 2)


def _bins(
    boxes: Tensor, output_size: tuple[int, int], spatial_scale: float, aligned: bool
) -> tuple[Tensor, Tensor]:
    """Where the bins of each box begin, and how large one is: (M, 2) each, x and y, in map pixels."""
    scaled = boxes * spatial_scale - (0.5 if aligned else 0.0)
    starts, sizes = scaled[:, :2], scaled[:, 2:] - scaled[:, :2]
    if not aligned:  # the old rule: no RoI is smaller than one pixel of the map
        sizes = sizes.clamp(min=1)
    return starts, sizes / boxes.new_tensor([output_size[1], output_size[0]])


def _taps(
    starts: Tensor, bin_sizes: Tensor, bins: int, samples: int, length: int
) -> tuple[Tensor, Tensor]:
    """Along one axis of ``length`` pixels, the pixels that each bin reads and their weights.

    Args:
        starts, bin_sizes: (M,), of M boxes.
        bins: of a box.
        samples: of a bin; each reads two pixels.

    Returns:
        (M, bins, 2 * samples) int64 pixels, and float32 weights that sum to one within the map.
    """
    offsets = (torch.arange(samples) + 0.5) * bin_sizes[:, None] / samples
    edges = starts[:, None] + torch.arange(bins) * bin_sizes[:, None]
    positions = edges[:, :, None] + offsets[:, None, :]
    inside = (positions >= -1) & (positions <= length)
    positions = positions.clamp(0, length - 1)
    low = positions.long().clamp(0, length - 1)
    high = (low + 1).clamp(max=length - 1)
    fraction = positions - low
    weights = torch.stack((1 - fraction, fraction), dim=-1) * (inside[..., None] / samples)
    return torch.stack((low, high), dim=-1).flatten(2), weights.flatten(2)
