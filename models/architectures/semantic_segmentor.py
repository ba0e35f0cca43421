"""A class for every pixel: a semantic head on its backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architectures.base import (
    DetectionModel,
    Inputs,
    Losses,
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
from models.structures import ImageList


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

    def losses(self, batched_inputs: Inputs) -> Losses:
        """See :meth:`DetectionModel.losses`: those of the semantic head."""
        images = self.preprocess_image(batched_inputs)
        targets = semantic_targets(batched_inputs, images, self.sem_seg_head)
        losses: Losses
        _, losses = self.sem_seg_head(self.backbone(images.tensor), targets)
        return losses


def semantic_targets(batched_inputs: Inputs, images: ImageList, head: Any) -> Tensor:
    """The class of each pixel of the padded images, (N, H, W) int64; padding is ignored.

    Args:
        batched_inputs: each with ``sem_seg``, the (h, w) classes of its ``image``.
        images: the padded batch.
        head: the semantic head, with its ``ignore_value`` and, to check the classes, ``num_classes``.

    Raises:
        ValueError: an image has no such classes, or of another size, or one that the head does not know.
    """
    height, width = images.tensor.shape[-2:]
    num_classes = getattr(head, "num_classes", None)
    targets = []
    for i, (inputs, size) in enumerate(zip(batched_inputs, images.image_sizes, strict=True)):
        if "sem_seg" not in inputs:
            raise ValueError(
                f"Image {i} has no classes of its pixels to learn from: give them under 'sem_seg', "
                f"(height, width) integers, {head.ignore_value} where they are not known."
            )
        labels: Tensor = inputs["sem_seg"]
        if tuple(labels.shape) != tuple(size):
            raise ValueError(
                f"Image {i} has {size[0]}x{size[1]} pixels, and its 'sem_seg' has the shape "
                f"{tuple(labels.shape)}: resize both alike."
            )
        if num_classes is not None:
            _check_pixel_classes(labels, head.ignore_value, num_classes, i)
        padding = (0, width - labels.shape[1], 0, height - labels.shape[0])
        targets.append(
            F.pad(labels.to(images.device, torch.int64), padding, value=head.ignore_value)
        )
    return torch.stack(targets)


def _check_pixel_classes(labels: Tensor, ignored: int, num_classes: int, image: int) -> None:
    strange = labels[(labels != ignored) & ((labels < 0) | (labels >= num_classes))]
    if len(strange):
        raise ValueError(
            f"Image {image} has pixels of class {int(strange[0])}, and the model's classes are 0 to "
            f"{num_classes - 1} ({ignored} is ignored): MODEL.SEM_SEG_HEAD.NUM_CLASSES counts them."
        )
