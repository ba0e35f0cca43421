"""RoIAlign as a module, over torchvision's kernel."""

from __future__ import annotations

import torchvision.ops
from torch import Tensor, nn


class ROIAlign(nn.Module):
    """Pool each RoI to a fixed size by bilinear sampling (He et al., Mask R-CNN, §3).

    Args:
        output_size: (height, width) of the pooled feature.
        spatial_scale: feature pixels per image pixel, 1 / stride.
        sampling_ratio: samples per bin and side; 0 is adaptive, ceil(RoI size / output size).
        aligned: shift by half a pixel so that samples lie on pixel centres ("ROIAlignV2").
    """

    def __init__(
        self,
        output_size: tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """(N, C, H, W) and RoIs (M, 5) as (image index, x1, y1, x2, y2) -> (M, C, h, w)."""
        pooled: Tensor = torchvision.ops.roi_align(
            features,
            rois.to(features.dtype),
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
        )
        return pooled

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )
