"""RetinaNet (Lin et al. 2017, Focal Loss)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.architectures.base import Losses, normalization_from_config
from models.architectures.build import META_ARCH_REGISTRY
from models.architectures.dense_detector import DenseDetector, permute_to_N_HWA_K
from models.architectures.dense_losses import dense_box_loss, dense_class_loss, positive_anchors
from models.architectures.retinanet_head import RetinaNetHead
from models.backbones import Backbone, build_backbone
from models.box_regression import Box2BoxTransform
from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.matcher import Matcher, overlaps
from models.proposals import build_anchor_generator
from models.structures import Boxes, ImageList, Instances
from models.wanted import Wanted


@META_ARCH_REGISTRY.register()
class RetinaNet(DenseDetector):
    """One-stage detection with anchors.

    Args:
        backbone: image batch -> feature maps.
        head: see :class:`RetinaNetHead`.
        head_in_features: feature maps of the head, by name.
        anchor_generator: anchors of these feature maps.
        box2box_transform: turns anchors and deltas into boxes.
        anchor_matcher: labels anchors by their ground truth, for training.
        num_classes: K.
        focal_loss_alpha, focal_loss_gamma: see :func:`models.losses.sigmoid_focal_loss`.
        smooth_l1_beta, box_reg_loss_type: see :func:`models.losses.box_regression_loss`.
        test_score_thresh: a detection scores strictly more.
        test_topk_candidates: candidates of each level that enter NMS.
        test_nms_thresh: boxes of one class that overlap more (IoU) are suppressed.
        max_detections_per_image: detections per image.
        pixel_mean, pixel_std, input_format, vis_period: see :class:`DetectionModel`.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str],
        anchor_generator: nn.Module,
        box2box_transform: Box2BoxTransform,
        anchor_matcher: Matcher,
        num_classes: int,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.5,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        vis_period: int = 0,
        input_format: str = "BGR",
    ) -> None:
        super().__init__(
            backbone,
            head,
            head_in_features,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            input_format=input_format,
            vis_period=vis_period,
        )
        self.num_classes = num_classes
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform
        self.anchor_matcher = anchor_matcher
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.smooth_l1_beta = smooth_l1_beta
        self.box_reg_loss_type = box_reg_loss_type
        # Detectron2's first guess, of which a hundred steps leave nothing.
        self.loss_normalizer = 100.0
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image

    @classmethod
    def from_config(cls, cfg: Config) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.RETINANET``."""
        retinanet = cfg.MODEL.RETINANET
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        missing = [name for name in retinanet.IN_FEATURES if name not in shapes]
        if missing:
            raise ConfigError(
                f"MODEL.RETINANET.IN_FEATURES names {', '.join(missing)}, which the backbone does "
                f"not return ({', '.join(shapes)}).",
                key="MODEL.RETINANET.IN_FEATURES",
            )
        levels = [shapes[name] for name in retinanet.IN_FEATURES]
        return {
            "backbone": backbone,
            "head": RetinaNetHead(cfg, levels),
            "head_in_features": retinanet.IN_FEATURES,
            "anchor_generator": build_anchor_generator(cfg, levels),
            "box2box_transform": Box2BoxTransform(weights=tuple(retinanet.BBOX_REG_WEIGHTS)),
            "anchor_matcher": Matcher(
                retinanet.IOU_THRESHOLDS, retinanet.IOU_LABELS, allow_low_quality_matches=True
            ),
            "num_classes": retinanet.NUM_CLASSES,
            "focal_loss_alpha": retinanet.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": retinanet.FOCAL_LOSS_GAMMA,
            "smooth_l1_beta": retinanet.SMOOTH_L1_LOSS_BETA,
            "box_reg_loss_type": retinanet.BBOX_REG_LOSS_TYPE,
            "test_score_thresh": retinanet.SCORE_THRESH_TEST,
            "test_topk_candidates": retinanet.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": retinanet.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        } | normalization_from_config(cfg)

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: tuple[list[Tensor], list[Tensor]],
        gt_instances: list[Instances],
    ) -> Losses:
        """See :meth:`DenseDetector.forward_training`: ``loss_cls`` and ``loss_box_reg``."""
        anchors = self.anchor_generator(features)
        logits = [permute_to_N_HWA_K(level, self.num_classes) for level in predictions[0]]
        deltas = [permute_to_N_HWA_K(level, 4) for level in predictions[1]]
        labels, gt_boxes = self.label_anchors(anchors, gt_instances)
        return self.dense_losses(anchors, logits, labels, deltas, gt_boxes)

    def dense_losses(
        self,
        anchors: Sequence[Boxes],
        pred_logits: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
        pred_anchor_deltas: Sequence[Tensor],
        gt_boxes: Sequence[Tensor],
    ) -> Losses:
        """The focal loss of all anchors that are not ignored, and the box loss of positive ones.

        Args:
            anchors: per level its (Hi * Wi * A) anchors.
            pred_logits: per level (N, Hi * Wi * A, K).
            gt_labels, gt_boxes: what :meth:`label_anchors` gave.
            pred_anchor_deltas: per level (N, Hi * Wi * A, 4).
        """
        labels = torch.stack(list(gt_labels))
        positive = positive_anchors(labels, self.num_classes)
        losses = {
            "loss_cls": dense_class_loss(
                pred_logits, labels, alpha=self.focal_loss_alpha, gamma=self.focal_loss_gamma
            ),
            "loss_box_reg": dense_box_loss(
                self.box_reg_loss_type,
                self.box2box_transform,
                Boxes.cat(list(anchors)).tensor,
                pred_anchor_deltas,
                positive,
                torch.stack(list(gt_boxes)),
                smooth_l1_beta=self.smooth_l1_beta,
            ),
        }
        normalizer = self.next_normalizer(len(positive[0]), len(labels))
        return {name: loss / normalizer for name, loss in losses.items()}

    @torch.no_grad()
    def label_anchors(
        self, anchors: Sequence[Boxes], gt_instances: Sequence[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What each anchor should have become, for N images.

        Args:
            anchors: per level its (Hi * Wi * A) anchors, R together.
            gt_instances: per image its ``gt_boxes`` and ``gt_classes``.

        Returns:
            Per image (R,) int64 classes, K for the background and -1 to ignore, and (R, 4) boxes of the
            matched objects, which mean nothing where the class is no object's.
        """
        everywhere = Boxes.cat(list(anchors))
        labels, boxes = [], []
        for truth in gt_instances:
            matches, kinds = self.anchor_matcher(overlaps(truth.gt_boxes, everywhere))
            if len(truth) == 0:
                labels.append(torch.full_like(matches, self.num_classes))
                boxes.append(torch.zeros_like(everywhere.tensor))
                continue
            classes = truth.gt_classes[matches]
            classes[kinds == 0] = self.num_classes
            classes[kinds == -1] = -1
            labels.append(classes)
            boxes.append(truth.gt_boxes.tensor[matches])
        return labels, boxes

    def forward_inference(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: tuple[list[Tensor], list[Tensor]],
        *,
        wanted: Sequence[Wanted] | None = None,
    ) -> list[Instances]:
        """See :meth:`DenseDetector.forward_inference`."""
        anchors = self.anchor_generator(features)
        scores = [permute_to_N_HWA_K(level, self.num_classes).sigmoid() for level in predictions[0]]
        deltas = [permute_to_N_HWA_K(level, 4) for level in predictions[1]]
        return self.detections(anchors, scores, deltas, images.image_sizes, wanted)
