"""RoI heads of the C4 models: the last stage of the ResNet runs on each region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones import BottleneckBlock, ResNet
from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.heads.fast_rcnn import FastRCNNOutputLayers
from models.heads.mask_head import build_mask_head
from models.heads.pooling import pooler_from_config
from models.heads.proposal_sampling import (
    number_masks,
    select_foreground_proposals,
    set_masks_,
)
from models.heads.roi_heads import ROI_HEADS_REGISTRY, ROIHeads
from models.layers import ShapeSpec
from models.poolers import ROIPooler
from models.structures import Boxes, Instances
from models.wanted import Wanted


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeads(ROIHeads):
    """Pooled regions go through ``res5``; boxes use its mean, masks its feature map.

    Args:
        in_features: the one feature map that is pooled.
        pooler: pools it.
        res5: the stage.
        box_predictor: classes and boxes.
        mask_head: masks; None is without.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        pooler: ROIPooler,
        res5: nn.Module,
        box_predictor: nn.Module,
        mask_head: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.in_features = tuple(in_features)
        self.pooler = pooler
        self.res5 = res5
        self.box_predictor: Any = box_predictor  # has inference() besides forward()
        self.mask_on = mask_head is not None
        self.mask_head: Any = mask_head

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.ROI_HEADS``, ``RESNETS`` and the heads."""
        in_features: list[str] = cfg.MODEL.ROI_HEADS.IN_FEATURES
        if len(in_features) != 1:
            raise ConfigError(
                f"Res5ROIHeads takes one feature map, not {len(in_features)}.",
                key="MODEL.ROI_HEADS.IN_FEATURES",
            )
        if cfg.MODEL.KEYPOINT_ON:
            raise ConfigError(
                "Res5ROIHeads has no keypoint head; set MODEL.KEYPOINT_ON to false.",
                key="MODEL.KEYPOINT_ON",
            )
        keywords = super().from_config(cfg, input_shape)
        res5, out_channels = cls._build_res5_block(cfg)
        keywords |= {
            "in_features": in_features,
            "pooler": pooler_from_config(cfg.MODEL.ROI_BOX_HEAD, input_shape, in_features),
            "res5": res5,
            "box_predictor": FastRCNNOutputLayers(
                cfg, ShapeSpec(channels=out_channels, height=1, width=1)
            ),
        }
        if cfg.MODEL.MASK_ON:
            side = cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION
            keywords["mask_head"] = build_mask_head(
                cfg, ShapeSpec(channels=out_channels, height=side, width=side)
            )
        return keywords

    @classmethod
    def _build_res5_block(cls, cfg: Config) -> tuple[nn.Sequential, int]:
        resnets = cfg.MODEL.RESNETS
        if resnets.DEFORM_ON_PER_STAGE[-1]:
            raise ConfigError(
                "Res5ROIHeads has no deformable convolution in res5.",
                key="MODEL.RESNETS.DEFORM_ON_PER_STAGE",
            )
        factor = 2**3  # res5 is eight times as wide as res2
        out_channels: int = resnets.RES2_OUT_CHANNELS * factor
        blocks = ResNet.make_stage(
            BottleneckBlock,
            3,
            stride_per_block=[2, 1, 1],
            in_channels=out_channels // 2,
            bottleneck_channels=resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP * factor,
            out_channels=out_channels,
            num_groups=resnets.NUM_GROUPS,
            norm=resnets.NORM,
            stride_in_1x1=resnets.STRIDE_IN_1X1,
        )
        return nn.Sequential(*blocks), out_channels

    def _shared_roi_transform(self, features: Mapping[str, Tensor], boxes: list[Boxes]) -> Tensor:
        pooled = self.pooler([features[name] for name in self.in_features], boxes)
        transformed: Tensor = self.res5(pooled)
        return transformed

    def detect_boxes(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Instances],
        wanted: Sequence[Wanted] | None = None,
    ) -> list[Instances]:
        """See :meth:`ROIHeads.detect_boxes`."""
        regions = self._shared_roi_transform(features, [p.proposal_boxes for p in proposals])
        predictions = self.box_predictor(regions.mean(dim=(2, 3)))
        given = (predictions, proposals) if wanted is None else (predictions, proposals, wanted)
        instances: list[Instances] = self.box_predictor.inference(*given)[0]
        return instances

    def losses(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances],
    ) -> dict[str, Tensor]:
        """See :meth:`ROIHeads.losses`; masks are learnt from the foreground's share of the regions."""
        sampled = self.label_and_sample_proposals(proposals, number_masks(targets))
        regions = self._shared_roi_transform(features, [p.proposal_boxes for p in sampled])
        predictions = self.box_predictor(regions.mean(dim=(2, 3)))
        losses: dict[str, Tensor] = self.box_predictor.losses(predictions, sampled)
        self.training_figures |= getattr(self.box_predictor, "training_figures", {})
        if self.mask_on:
            foreground, chosen = select_foreground_proposals(sampled, self.num_classes)
            set_masks_(foreground, targets)
            losses |= self.mask_head(regions[torch.cat(chosen).nonzero().flatten()], foreground)
            self.training_figures |= getattr(self.mask_head, "training_figures", {})
        return losses

    def forward_with_given_boxes(
        self, features: Mapping[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """See :meth:`ROIHeads.forward_with_given_boxes`."""
        if not self.mask_on:
            return instances
        regions = self._shared_roi_transform(features, [x.pred_boxes for x in instances])
        masked: list[Instances] = self.mask_head(regions, instances)
        return masked
