"""A class for every pixel: a semantic head on its backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from models.architectures.base import (
    DetectionModel,
    Inputs,
    Outputs,
    normalization_from_config,
    output_sizes,
)
from models.architectures.build import META_ARCH_REGISTRY
from models.backbones import Backbone, build_backbone
from models.config import Config
from models.configurable import configurable
from models.heads import build_sem_seg_head
from models.postprocessing import sem_seg_postprocess


@META_ARCH_REGISTRY.register()
class SemanticSegmentor(DetectionModel):
    """Semantic segmentation.

    Args:
        backbone: image batch -> feature maps.
        sem_seg_head: feature maps -> logits of the padded images.
        pixel_mean, pixel_std, input_format: see :class:`DetectionModel`.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone, pixel_mean=pixel_mean, pixel_std=pixel_std, input_format=input_format
        )
        self.sem_seg_head = sem_seg_head

    @classmethod
    def from_config(cls, cfg: Config) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL``."""
        backbone = build_backbone(cfg)
        normalization = normalization_from_config(cfg)
        del normalization["vis_period"]
        return {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
        } | normalization

    @torch.no_grad()
    def predict(self, batched_inputs: Inputs) -> Outputs:
        """Per image ``{"sem_seg": (K, height, width) logits}``."""
        images = self.preprocess_image(batched_inputs)
        logits, _ = self.sem_seg_head(self.backbone(images.tensor))
        sizes = output_sizes(batched_inputs, images)
        return [
            {"sem_seg": sem_seg_postprocess(per_image, image_size, *size)}
            for per_image, image_size, size in zip(logits, images.image_sizes, sizes, strict=True)
        ]
