"""RoI heads with a pooler and a head of its own for each task: the usual ones behind a pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.config import Config
from models.configurable import configurable
from models.heads.box_head import build_box_head
from models.heads.fast_rcnn import FastRCNNOutputLayers
from models.heads.keypoint_head import build_keypoint_head
from models.heads.mask_head import build_mask_head
from models.heads.pooling import pooled_shape, pooler_from_config
from models.heads.proposal_sampling import (
    number_masks,
    select_foreground_proposals,
    select_proposals_with_visible_keypoints,
    set_masks_,
)
from models.heads.roi_heads import ROI_HEADS_REGISTRY, ROIHeads
from models.layers import ShapeSpec
from models.poolers import ROIPooler
from models.structures import Boxes, Instances, RotatedBoxes
from models.wanted import Wanted


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """A pooler and a head of its own for each task: boxes, masks, keypoints.

    Args:
        box_in_features: feature maps of the box head, by name.
        box_pooler, box_head, box_predictor: pooled regions -> features -> classes and boxes.
        mask_in_features, mask_pooler, mask_head: the same for masks; None is without masks.
        keypoint_in_features, keypoint_pooler, keypoint_head: the same for keypoints.
        train_on_pred_boxes: train the mask head on predicted boxes instead of proposals.
    """

    @configurable
    def __init__(
        self,
        *,
        box_in_features: Sequence[str],
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_in_features: Sequence[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        keypoint_in_features: Sequence[str] | None = None,
        keypoint_pooler: ROIPooler | None = None,
        keypoint_head: nn.Module | None = None,
        train_on_pred_boxes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.box_in_features = tuple(box_in_features)
        self.box_pooler = box_pooler
        self.box_head = box_head
        self.box_predictor: Any = box_predictor  # has inference() besides forward()
        self.mask_on = mask_head is not None
        self.mask_in_features = tuple(mask_in_features or ())
        self.mask_pooler = mask_pooler
        self.mask_head: Any = mask_head
        self.keypoint_on = keypoint_head is not None
        self.keypoint_in_features = tuple(keypoint_in_features or ())
        self.keypoint_pooler = keypoint_pooler
        self.keypoint_head: Any = keypoint_head
        self.train_on_pred_boxes = train_on_pred_boxes

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Keywords from the config; a subclass may replace the ``_init_..._head`` methods."""
        keywords = super().from_config(cfg, input_shape)
        keywords["train_on_pred_boxes"] = cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES
        keywords |= cls._init_box_head(cfg, input_shape)
        keywords |= cls._init_mask_head(cfg, input_shape)
        keywords |= cls._init_keypoint_head(cfg, input_shape)
        return keywords

    @classmethod
    def _init_box_head(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        cfg_head = cfg.MODEL.ROI_BOX_HEAD
        pooler = pooler_from_config(cfg_head, input_shape, in_features)
        box_head: Any = build_box_head(cfg, pooled_shape(cfg_head, input_shape, in_features))
        return {
            "box_in_features": in_features,
            "box_pooler": pooler,
            "box_head": box_head,
            "box_predictor": FastRCNNOutputLayers(cfg, box_head.output_shape),
        }

    @classmethod
    def _init_mask_head(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        if not cfg.MODEL.MASK_ON:
            return {}
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        cfg_head = cfg.MODEL.ROI_MASK_HEAD
        return {
            "mask_in_features": in_features,
            "mask_pooler": pooler_from_config(cfg_head, input_shape, in_features),
            "mask_head": build_mask_head(cfg, pooled_shape(cfg_head, input_shape, in_features)),
        }

    @classmethod
    def _init_keypoint_head(
        cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]
    ) -> dict[str, Any]:
        if not cfg.MODEL.KEYPOINT_ON:
            return {}
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        cfg_head = cfg.MODEL.ROI_KEYPOINT_HEAD
        return {
            "keypoint_in_features": in_features,
            "keypoint_pooler": pooler_from_config(cfg_head, input_shape, in_features),
            "keypoint_head": build_keypoint_head(
                cfg, pooled_shape(cfg_head, input_shape, in_features)
            ),
        }

    def forward_with_given_boxes(
        self, features: Mapping[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """See :meth:`ROIHeads.forward_with_given_boxes`."""
        boxes = [x.pred_boxes for x in instances]
        if self.mask_on:
            regions = self._regions(self.mask_pooler, self.mask_in_features, features, boxes)
            instances = self.mask_head(regions, instances)
        if self.keypoint_on:
            regions = self._regions(
                self.keypoint_pooler, self.keypoint_in_features, features, boxes
            )
            instances = self.keypoint_head(regions, instances)
        return instances

    def losses(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances],
    ) -> dict[str, Tensor]:
        """See :meth:`ROIHeads.losses`; masks and keypoints are learnt on the foreground alone."""
        sampled = self.label_and_sample_proposals(proposals, number_masks(targets))
        losses = self.box_losses(features, sampled, targets)
        if not (self.mask_on or self.keypoint_on):
            return losses
        foreground, _ = select_foreground_proposals(sampled, self.num_classes)
        if self.mask_on:
            set_masks_(foreground, targets)
            boxes = [x.proposal_boxes for x in foreground]
            regions = self._regions(self.mask_pooler, self.mask_in_features, features, boxes)
            losses |= self.mask_head(regions, foreground)
            self.training_figures |= getattr(self.mask_head, "training_figures", {})
        if self.keypoint_on:
            foreground = select_proposals_with_visible_keypoints(foreground)
            boxes = [x.proposal_boxes for x in foreground]
            regions = self._regions(
                self.keypoint_pooler, self.keypoint_in_features, features, boxes
            )
            losses |= self.keypoint_head(regions, foreground)
            self.training_figures |= getattr(self.keypoint_head, "training_figures", {})
        return losses

    def box_losses(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances],
    ) -> dict[str, Tensor]:
        """The losses of the box predictor.

        Args:
            features: as in :meth:`forward`.
            proposals: what :meth:`label_and_sample_proposals` gave. With ``train_on_pred_boxes``
                their boxes are replaced, in place, by those that were predicted for their classes.
            targets: per image its objects.
        """
        levels = [features[name] for name in self.box_in_features]
        predictions = self.box_predictor(self.box_head(self.pool_for_training(levels, proposals)))
        losses: dict[str, Tensor] = self.box_predictor.losses(predictions, proposals)
        self.training_figures |= getattr(self.box_predictor, "training_figures", {})
        if self.train_on_pred_boxes:
            with torch.no_grad():
                boxes = self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)
            for found, predicted in zip(proposals, boxes, strict=True):
                found.proposal_boxes = Boxes(predicted)
        return losses

    def pool_for_training(self, levels: list[Tensor], proposals: list[Instances]) -> Tensor:
        """The pooled ``proposal_boxes`` (R, C, H, W), connected to ``levels`` even if R is 0."""
        pooled: Tensor = self.box_pooler(levels, [p.proposal_boxes for p in proposals])
        if len(pooled) == 0:
            # Zero times a number: parallel training wants a gradient, of zeros, for every weight.
            pooled = pooled + torch.stack([level.sum() for level in levels]).sum()
        return pooled

    def detect_boxes(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Instances],
        wanted: Sequence[Wanted] | None = None,
    ) -> list[Instances]:
        """See :meth:`ROIHeads.detect_boxes`."""
        levels = [features[name] for name in self.box_in_features]
        pooled = self.box_pooler(levels, [p.proposal_boxes for p in proposals])
        predictions = self.box_predictor(self.box_head(pooled))
        # A predictor of somebody's own need not know of overrides.
        given = (predictions, proposals) if wanted is None else (predictions, proposals, wanted)
        instances: list[Instances] = self.box_predictor.inference(*given)[0]
        return instances

    def keypoint_logits(self, features: Mapping[str, Tensor], instances: list[Instances]) -> Tensor:
        """Keypoint heatmaps (R, K, S, S) over the ``pred_boxes`` of all images."""
        regions = self._regions(
            self.keypoint_pooler,
            self.keypoint_in_features,
            features,
            [x.pred_boxes for x in instances],
        )
        if isinstance(regions, Tensor):
            # layers() is called past the head itself, which may compute in half precision.
            regions = regions.to(next(self.keypoint_head.parameters()).dtype)
        logits: Tensor = self.keypoint_head.layers(regions)
        return logits.float()

    @staticmethod
    def _regions(
        pooler: ROIPooler | None,
        names: Sequence[str],
        features: Mapping[str, Tensor],
        boxes: Sequence[Boxes | RotatedBoxes],
    ) -> Tensor | dict[str, Tensor]:
        """What a head takes: pooled regions, or the feature maps if it pools by itself."""
        if pooler is None:
            return {name: features[name] for name in names}
        pooled: Tensor = pooler([features[name] for name in names], boxes)
        return pooled
