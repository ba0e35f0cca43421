"""A network that only proposes: an RPN on its backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

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
from models.errors import ConfigError
from models.postprocessing import rescale_instances
from models.proposals import build_proposal_generator
from models.transfer import to_host


@META_ARCH_REGISTRY.register()
class ProposalNetwork(DetectionModel):
    """Class-agnostic object proposals.

    Args:
        backbone: image batch -> feature maps.
        proposal_generator: feature maps -> proposals.
        pixel_mean, pixel_std, input_format: see :class:`DetectionModel`.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone, pixel_mean=pixel_mean, pixel_std=pixel_std, input_format=input_format
        )
        self.proposal_generator = proposal_generator

    @classmethod
    def from_config(cls, cfg: Config) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL``."""
        backbone = build_backbone(cfg)
        generator = build_proposal_generator(cfg, backbone.output_shape())
        if generator is None:
            raise ConfigError(
                "A ProposalNetwork needs a proposal generator; PrecomputedProposals is none.",
                key="MODEL.PROPOSAL_GENERATOR.NAME",
            )
        normalization = normalization_from_config(cfg)
        del normalization["vis_period"]
        return {"backbone": backbone, "proposal_generator": generator} | normalization

    def losses(self, batched_inputs: Inputs) -> Losses:
        """See :meth:`DetectionModel.losses`; the classes of the ground truth are not looked at."""
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        truths = self.ground_truth(batched_inputs)
        losses: Losses
        _, losses = self.proposal_generator(images, features, truths)
        self.note_figures(self.proposal_generator)
        return losses

    @torch.no_grad()
    def predict(self, batched_inputs: Inputs) -> Outputs:
        """Per image ``{"proposals": Instances}`` with ``proposal_boxes``, ``objectness_logits``."""
        images = self.preprocess_image(batched_inputs)
        proposals, _ = self.proposal_generator(images, self.backbone(images.tensor))
        sizes = output_sizes(batched_inputs, images)
        return [
            {"proposals": rescale_instances(per_image, *size)}
            for per_image, size in zip(to_host(proposals), sizes, strict=True)
        ]
