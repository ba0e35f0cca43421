"""RoI pooling over a feature pyramid: each box from the level that suits its size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import RoIPool

from models.errors import ConfigError
from models.layers.roi_align import ROIAlign
from models.layers.roi_align_rotated import ROIAlignRotated
from models.structures import Boxes, RotatedBoxes
from models.transfer import pays_together, to_device


def assign_boxes_to_levels(
    box_lists: Sequence[Boxes | RotatedBoxes],
    min_level: int,
    max_level: int,
    canonical_box_size: int,
    canonical_level: int,
) -> Tensor:
    """(M,) int64, for each box of all images its level, counted from ``min_level`` = 0.

    A box of ``canonical_box_size`` (side in pixels) goes to ``canonical_level``, one twice as large
    a level up (Lin et al. 2017, FPN, eq. 1); levels that do not exist become the nearest one.
    """
    sides = torch.sqrt(torch.cat([boxes.area() for boxes in box_lists]))
    # 1e-8 inside the logarithm, as Detectron2 has it: it decides boxes that lie on a boundary.
    levels = torch.floor(canonical_level + torch.log2(sides / canonical_box_size + 1e-8))
    return torch.clamp(levels, min=min_level, max=max_level).to(torch.int64) - min_level


def convert_boxes_to_pooler_format(
    box_lists: Sequence[Boxes | RotatedBoxes],
) -> Tensor:
    """(M, 5), or (M, 6) rotated: the boxes of all images, each behind the index of its image."""
    boxes = torch.cat([boxes.tensor for boxes in box_lists], dim=0)
    lengths = torch.tensor([len(boxes) for boxes in box_lists])
    index = torch.arange(len(box_lists), dtype=boxes.dtype).repeat_interleave(lengths)
    return torch.cat((to_device(index, boxes.device)[:, None], boxes), dim=1)


def _level_pooler(
    pooler_type: str, output_size: tuple[int, int], scale: float, sampling_ratio: int
) -> nn.Module:
    if pooler_type == "ROIAlignRotated":
        return ROIAlignRotated(output_size, scale, sampling_ratio)
    if pooler_type == "ROIPool":
        pool: nn.Module = RoIPool(output_size, scale)
        return pool
    return ROIAlign(output_size, scale, sampling_ratio, aligned=pooler_type == "ROIAlignV2")


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


class ROIPooler(nn.Module):
    """Pools boxes from one or several feature maps.

    Args:
        output_size: side, or (height, width), of the pooled feature.
        scales: per feature map 1 / stride; powers of two, each half of the one before.
        sampling_ratio: see :class:`ROIAlign`.
        pooler_type: "ROIAlignV2" (aligned), "ROIAlign", "ROIPool" (the maximum over whole pixels,
            Girshick 2015), or "ROIAlignRotated" for rotated boxes.
        canonical_box_size: side in pixels of a box that is pooled from ``canonical_level``.
        canonical_level: log2 of that level's stride.
    """

    def __init__(
        self,
        output_size: int | tuple[int, int] | list[int],
        scales: Sequence[float],
        sampling_ratio: int,
        pooler_type: str,
        canonical_box_size: int = 224,
        canonical_level: int = 4,
    ) -> None:
        super().__init__()
        if isinstance(output_size, int):
            output_size = (output_size, output_size)
        if len(output_size) != 2:
            raise ValueError(f"A pooler's output size has two sides, got {output_size}.")
        if pooler_type not in {"ROIAlign", "ROIAlignV2", "ROIPool", "ROIAlignRotated"}:
            raise ConfigError(
                f"Pooler type {pooler_type!r} is not known; there are ROIAlignV2, ROIAlign, ROIPool "
                "and ROIAlignRotated.",
                pooler_type=pooler_type,
            )
        levels = [-math.log2(scale) for scale in scales]
        if any(abs(level - round(level)) > 1e-6 for level in levels):
            raise ValueError(
                f"Strides of a pooler must be powers of two; scales are {list(scales)}."
            )
        self.min_level, self.max_level = round(levels[0]), round(levels[-1])
        if self.max_level - self.min_level + 1 != len(scales):
            raise ValueError(f"Scales of a pooler must halve from one to the next: {list(scales)}.")
        self.output_size = (output_size[0], output_size[1])
        self.canonical_box_size = canonical_box_size
        self.canonical_level = canonical_level
        self.level_poolers = nn.ModuleList(
            _level_pooler(pooler_type, self.output_size, scale, sampling_ratio) for scale in scales
        )

    def forward(self, x: Sequence[Tensor], box_lists: Sequence[Boxes | RotatedBoxes]) -> Tensor:
        """Pool the boxes of N images.

        Args:
            x: per level a feature map (N, C, H, W).
            box_lists: N objects of boxes, in pixels of the (padded) input images; RotatedBoxes for
                "ROIAlignRotated".

        Returns:
            (M, C, height, width), M boxes in the order of the images.
        """
        if len(x) != len(self.level_poolers):
            raise ValueError(f"{len(x)} feature maps for {len(self.level_poolers)} levels.")
        if sum(len(boxes) for boxes in box_lists) == 0:
            return x[0].new_zeros((0, x[0].shape[1], *self.output_size))
        rois = convert_boxes_to_pooler_format(box_lists)
        if len(self.level_poolers) == 1:
            pooled: Tensor = self.level_poolers[0](x[0], rois)
            return pooled
        levels = assign_boxes_to_levels(
            box_lists, self.min_level, self.max_level, self.canonical_box_size, self.canonical_level
        )
        if pays_together(rois.device):
            return self._pool_sorted(x, rois, levels)
        output = x[0].new_zeros((len(rois), x[0].shape[1], *self.output_size))
        if _is_channels_last(x[0]):
            output = output.contiguous(memory_format=torch.channels_last)
        for level, (features, pooler) in enumerate(zip(x, self.level_poolers, strict=True)):
            index = (levels == level).nonzero().flatten()
            output.index_put_((index,), pooler(features, rois[index]))
        return output

    def _pool_sorted(self, x: Sequence[Tensor], rois: Tensor, levels: Tensor) -> Tensor:
        """The same with one wait for the device instead of one for each level."""
        order = levels.argsort(stable=True)
        steps = torch.arange(len(self.level_poolers), device=levels.device)
        counts = (levels[:, None] == steps).sum(dim=0).tolist()
        pooled = torch.cat(
            [
                pooler(features, part)
                for features, pooler, part in zip(
                    x, self.level_poolers, torch.split(rois[order], counts), strict=True
                )
            ]
        )
        pooled = pooled[order.argsort()]
        if _is_channels_last(x[0]):
            pooled = pooled.contiguous(memory_format=torch.channels_last)
        return pooled
