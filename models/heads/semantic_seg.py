"""Semantic segmentation on a feature pyramid (Kirillov et al. 2019, Panoptic FPN)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from models.config import Config
from models.configurable import configurable
from models.layers import Conv2d, ShapeSpec, get_norm
from models.layers.batch_norm import Norm
from models.layers.weight_init import c2_msra_fill
from models.losses import at_least_float32
from models.registry import Registry

SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS", key="MODEL.SEM_SEG_HEAD.NAME")
"""Called as ``obj(cfg, input_shape)`` with the backbone's output shape; returns a module."""


@SEM_SEG_HEADS_REGISTRY.register()
class SemSegFPNHead(nn.Module):
    """Brings every level to one resolution by convolutions and upsampling, and sums.

    Args:
        input_shape: of the levels to use, by name.
        num_classes: K.
        conv_dims: channels of the convolutions.
        common_stride: of the resolution in which the levels are summed.
        loss_weight: factor of the loss.
        norm: norm of the convolutions; they have a bias only without one.
        ignore_value: label of pixels that the loss ignores.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        conv_dims: int,
        common_stride: int,
        loss_weight: float = 1.0,
        norm: Norm = None,
        ignore_value: int = -1,
    ) -> None:
        super().__init__()
        levels = sorted(input_shape.items(), key=lambda item: item[1].known_stride)
        if not levels:
            raise ValueError("SemSegFPNHead needs at least one feature map.")
        self.in_features = tuple(name for name, _ in levels)
        self.num_classes = num_classes
        self.common_stride = common_stride
        self.loss_weight = loss_weight
        self.ignore_value = ignore_value
        for name, shape in levels:
            stride, channels = shape.known_stride, shape.known_channels
            length = max(1, int(math.log2(stride) - math.log2(common_stride)))
            layers: list[nn.Module] = []
            for _ in range(length):
                conv = Conv2d(
                    channels,
                    conv_dims,
                    kernel_size=3,
                    padding=1,
                    bias=not norm,
                    norm=get_norm(norm, conv_dims),
                    activation=F.relu_,
                )
                c2_msra_fill(conv)
                layers.append(conv)
                channels = conv_dims
                if stride != common_stride:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.add_module(name, nn.Sequential(*layers))
        self.predictor = Conv2d(conv_dims, num_classes, kernel_size=1)
        c2_msra_fill(self.predictor)

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.SEM_SEG_HEAD``."""
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {k: v for k, v in input_shape.items() if k in head.IN_FEATURES},
            "num_classes": head.NUM_CLASSES,
            "conv_dims": head.CONVS_DIM,
            "common_stride": head.COMMON_STRIDE,
            "loss_weight": head.LOSS_WEIGHT,
            "norm": head.NORM,
            "ignore_value": head.IGNORE_VALUE,
        }

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Levels (N, C, Hi, Wi) by name -> logits (N, K, H, W) of the padded images, and no losses.

        In training None, and the losses; ``targets`` as of :meth:`losses`.

        Raises:
            ValueError: there are no targets in training.
        """
        x = self.layers(features)
        if self.training:
            if targets is None:
                raise ValueError("The semantic head needs a class for each pixel in training.")
            return None, self.losses(x, targets)
        return self.upsampled(x), {}

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """``loss_sem_seg``: the mean cross entropy over the pixels that are not ignored.

        Args:
            predictions: (N, K, H / common_stride, W / common_stride) logits.
            targets: (N, H, W) int64 classes of the padded images, ``ignore_value`` where there is none.

        Returns:
            The loss times its weight; if all pixels are ignored a zero connected to ``predictions``.
        """
        logits = self.upsampled(at_least_float32(predictions))
        total = F.cross_entropy(logits, targets, ignore_index=self.ignore_value, reduction="sum")
        # Not the mean over what is left, which of nothing is NaN.
        counted = (targets != self.ignore_value).sum().clamp(min=1)
        return {"loss_sem_seg": total / counted * self.loss_weight}

    def upsampled(self, logits: Tensor) -> Tensor:
        """(N, K, H / common_stride, W / common_stride) -> (N, K, H, W)."""
        return F.interpolate(
            logits, scale_factor=self.common_stride, mode="bilinear", align_corners=False
        )

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Levels by name -> logits (N, K, H / common_stride, W / common_stride)."""
        scaled = [getattr(self, name)(features[name]) for name in self.in_features]
        total = scaled[0]
        for level in scaled[1:]:
            total = total + level
        logits: Tensor = self.predictor(total)
        return logits


def build_sem_seg_head(cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """The head ``cfg.MODEL.SEM_SEG_HEAD.NAME``."""
    head: nn.Module = SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, input_shape)
    return head
