"""RoIAlign as a module, over torchvision's kernel."""

from __future__ import annotations

import torch
import torchvision.ops
from torch import Tensor, nn

from models.layers.roi_align_channels_last import roi_align_channels_last


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
        """(N, C, H, W) and RoIs (M, 5) as (image index, x1, y1, x2, y2) -> (M, C, h, w).

        Half-precision features are pooled in float32, as half of it cannot hold a coordinate.
        """
        pool = roi_align_channels_last if _has_pixel_rows(features) else torchvision.ops.roi_align
        pooled: Tensor = pool(
            features.to(torch.promote_types(features.dtype, torch.float32)),
            rois.to(torch.promote_types(features.dtype, torch.float32)),
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
        )
        return pooled.to(features.dtype)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )


def _has_pixel_rows(features: Tensor) -> bool:
    """Whether the fast way of :mod:`models.layers.roi_align_channels_last` can be taken."""
    return (
        features.device.type == "cpu"
        and features.dtype in (torch.float32, torch.bfloat16)
        and features.is_contiguous(memory_format=torch.channels_last)
        and not features.is_contiguous()
        and not (features.requires_grad and torch.is_grad_enabled())
    )
