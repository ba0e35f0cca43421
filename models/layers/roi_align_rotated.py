"""RoIAlign for rotated regions, in plain tensor operations.

A pooled bin is a weighted sum of feature vectors: four neighbours for each sample, all weights
known beforehand. ``torch.nn.functional.embedding_bag`` computes just that without holding the
samples, on every device and with gradients for the features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAMPLES_PER_STEP = 1 << 19
"""Samples that are prepared at once, some 100 MB; a region with more is pooled by itself."""


def _neighbours(y: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Cells (S, 4) and weights (S, 4) that give the bilinear value at (y, x) of a feature map.

    As in RoIAlign, a point up to one cell outside of the map has the value at its border, one
    further away is 0.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    # Clamping first also makes NaN and infinity harmless as indices; `inside` is False for them.
    y = torch.nan_to_num(y).clamp(0, height - 1)
    x = torch.nan_to_num(x).clamp(0, width - 1)
    top, left = y.floor(), x.floor()
    down, right = y - top, x - left
    weights = torch.stack(
        (
            (1 - down) * (1 - right),
            (1 - down) * right,
            down * (1 - right),
            down * right,
        ),
        dim=1,
    )
    rows = torch.stack((top, (top + 1).clamp(max=height - 1)), dim=1).to(torch.int64)
    columns = torch.stack((left, (left + 1).clamp(max=width - 1)), dim=1).to(torch.int64)
    cells = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    return cells, weights * inside[:, None]


def _pool(
    cells_by_channel: Tensor,
    size: tuple[int, int],
    rois: Tensor,
    grid: Tensor,
    output_size: tuple[int, int],
) -> Tensor:
    """Pool some regions.

    Args:
        cells_by_channel: (N * H * W, C), the feature maps' cells.
        size: (H, W).
        rois: (M, 6) as (image index, x_ctr, y_ctr, w, h, angle in radians), in feature pixels.
        grid: (M, 2) int64, samples of each bin, down and across.
        output_size: bins down and across.

    Returns:
        (M, bins down * bins across, C).
    """
    height, width = size
    bins_down, bins_across = output_size
    bins = bins_down * bins_across
    per_bin = grid[:, 0] * grid[:, 1]
    # One bag for each bin, region by region; then one entry for each sample of each bag.
    bag_sizes = per_bin.repeat_interleave(bins)
    bag_starts = bag_sizes.cumsum(0) - bag_sizes
    bag = torch.arange(len(bag_sizes), device=rois.device).repeat_interleave(bag_sizes)
    number = torch.arange(len(bag), device=rois.device) - bag_starts[bag]
    roi = bag // bins
    bin_y, bin_x = bag % bins // bins_across, bag % bins_across
    down, across = grid[roi].unbind(1)
    image, center_x, center_y, roi_width, roi_height, radians = rois[roi].unbind(1)
    # Sample positions in the region's own frame, as a part of its sides, -0.5 .. 0.5.
    part_y = (bin_y + (number // across + 0.5) / down) / bins_down - 0.5
    part_x = (bin_x + (number % across + 0.5) / across) / bins_across - 0.5
    local_y, local_x = part_y * roi_height, part_x * roi_width
    cos, sin = radians.cos(), radians.sin()
    y = local_y * cos - local_x * sin + center_y
    x = local_y * sin + local_x * cos + center_x
    cells, weights = _neighbours(y, x, height, width)
    cells += (image.to(torch.int64) * (height * width))[:, None]
    weights = weights / per_bin[roi, None]
    pooled: Tensor = F.embedding_bag(
        cells.flatten(),
        cells_by_channel,
        bag_starts * 4,
        mode="sum",
        per_sample_weights=weights.flatten().to(cells_by_channel.dtype),
    )
    return pooled.view(len(rois), bins, -1)


class ROIAlignRotated(nn.Module):
    """Pool each rotated RoI to a fixed size by bilinear sampling.

    RoIAlign (He et al., Mask R-CNN, §3) with its sampling grid turned by the region's angle; pixel
    centres lie at half coordinates, as in the aligned RoIAlign, which it equals at angle 0.

    Args:
        output_size: (height, width) of the pooled feature.
        spatial_scale: feature pixels per image pixel, 1 / stride.
        sampling_ratio: samples per bin and side; 0 is adaptive, ceil(RoI size / output size).
    """

    def __init__(
        self, output_size: tuple[int, int], spatial_scale: float, sampling_ratio: int
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Pool M regions.

        Args:
            features: (N, C, H, W), floating point.
            rois: (M, 6) as (image index, x_ctr, y_ctr, w, h, angle), pixels and degrees
                counter-clockwise. No gradient flows into them.

        Returns:
            (M, C, height, width); zeros for a region without width or height, or with NaN or infinity.

        Raises:
            ValueError: ``rois`` has another shape.
        """
        if rois.dim() != 2 or rois.shape[1] != 6:
            raise ValueError(f"Rotated RoIs need shape (M, 6), got {tuple(rois.shape)}.")
        channels, height, width = features.shape[1:]
        bins_down, bins_across = self.output_size
        if len(rois) == 0 or features.numel() == 0:
            return features.new_zeros((len(rois), channels, bins_down, bins_across))
        scaled = rois.detach().float().clone()
        scaled[:, 1:5] *= self.spatial_scale
        scaled[:, 1:3] -= 0.5
        scaled[:, 5] *= math.pi / 180
        output = scaled.new_tensor([bins_down, bins_across])
        if self.sampling_ratio > 0:
            grid = torch.full((len(rois), 2), self.sampling_ratio, device=rois.device)
        else:
            samples = torch.nan_to_num((scaled[:, [4, 3]] / output).ceil(), 0.0, 0.0, 0.0)
            grid = samples.clamp(min=0).to(torch.int64)
        cells_by_channel = features.permute(0, 2, 3, 1).reshape(-1, channels)
        parts = [
            _pool(cells_by_channel, (height, width), scaled[part], grid[part], self.output_size)
            for part in self._parts(grid)
        ]
        pooled = torch.cat(parts).view(len(rois), bins_down, bins_across, channels)
        return pooled.permute(0, 3, 1, 2)

    def _parts(self, grid: Tensor) -> list[slice]:
        """Runs of regions that have at most SAMPLES_PER_STEP samples together, or are single."""
        bins = self.output_size[0] * self.output_size[1]
        parts, start, total = [], 0, 0
        for i, samples in enumerate((grid.prod(dim=1) * bins).tolist()):
            if total + samples > SAMPLES_PER_STEP and i > start:
                parts.append(slice(start, i))
                start, total = i, 0
            total += samples
        parts.append(slice(start, len(grid)))
        return parts

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}"
        )
