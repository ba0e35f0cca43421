"""Generalized R-CNN: backbone, proposal generator, per-region heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.architectures.build import META_ARCH_REGISTRY
from models.backbones import Backbone, build_backbone
from models.config import Config
from models.configurable import configurable
from models.heads import build_roi_heads
from models.postprocessing import detector_postprocess
from models.proposals import build_proposal_generator
from models.structures import ImageList, Instances


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(nn.Module):
    """Faster and Mask R-CNN and their relatives.

    Args:
        backbone: image batch -> feature maps.
        proposal_generator: feature maps -> proposals.
        roi_heads: feature maps and proposals -> detections.
        pixel_mean, pixel_std: per channel, in the order of ``input_format``, of pixels in 0 .. 255.
        input_format: what the channels of the input are, "BGR" or "RGB".
        vis_period: kept for compatibility.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module,
        roi_heads: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
    ) -> None:
        super().__init__()
        if len(pixel_mean) != len(pixel_std):
            raise ValueError("pixel_mean and pixel_std have different lengths.")
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.input_format = input_format
        self.vis_period = vis_period
        # Not persistent: they come from the config, checkpoints do not hold them.
        self.register_buffer(
            "pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False
        )
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor

    @classmethod
    def from_config(cls, cfg: Config) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL``."""
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, shapes),
            "roi_heads": build_roi_heads(cfg, shapes),
            "pixel_mean": [float(v) for v in cfg.MODEL.PIXEL_MEAN],
            "pixel_std": [float(v) for v in cfg.MODEL.PIXEL_STD],
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
        }

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Detect in N images.

        Args:
            batched_inputs: per image a dict with ``image``, a (C, H, W) tensor with pixels in
                0 .. 255 and channels as ``input_format`` says, already resized; and optionally
                ``height`` and ``width``, the resolution that the answer is wanted in.

        Returns:
            Per image ``{"instances": Instances}`` with ``pred_boxes`` (R, 4), ``scores`` (R,),
            ``pred_classes`` (R,) int64 and, with a mask head, ``pred_masks`` (R, height, width) bool.
        """
        if self.training:
            raise NotImplementedError("Training is not built yet; call model.eval() first.")
        results = self.inference(batched_inputs)
        return [{"instances": instances} for instances in results]

    @torch.no_grad()
    def inference(
        self,
        batched_inputs: Sequence[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[Instances]:
        """Detect in N images, or only complete known boxes.

        Args:
            batched_inputs: as in :meth:`forward`.
            detected_instances: per image known ``pred_boxes`` and ``pred_classes``, in pixels of
                ``image``; then no boxes are searched, only masks predicted.
            do_postprocess: rescale to ``height`` and ``width`` and paste the masks.

        Returns:
            Per image its instances. Without post-processing they are in pixels of ``image`` and
            ``pred_masks`` are soft, (R, 1, M, M) over each box.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        results: list[Instances]
        if detected_instances is None:
            proposals, _ = self.proposal_generator(images, features)
            results, _ = self.roi_heads(images, features, proposals)
        else:
            on_device = [instances.to(self.device) for instances in detected_instances]
            heads: Any = self.roi_heads
            results = heads.forward_with_given_boxes(features, on_device)
        if not do_postprocess:
            return results
        return [
            detector_postprocess(
                instances,
                int(inputs.get("height", image_size[0])),
                int(inputs.get("width", image_size[1])),
            )
            for instances, inputs, image_size in zip(
                results, batched_inputs, images.image_sizes, strict=True
            )
        ]

    def preprocess_image(self, batched_inputs: Sequence[dict[str, Any]]) -> ImageList:
        """Normalise, then pad (so that padding is 0, the mean colour) and batch the images."""
        images = [inputs["image"].to(self.device) for inputs in batched_inputs]
        normalized = [(image - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(normalized, self.backbone.size_divisibility)
