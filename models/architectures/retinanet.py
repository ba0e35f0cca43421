"""RetinaNet (Lin et al. 2017, Focal Loss)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from models.architectures.base import normalization_from_config
from models.architectures.build import META_ARCH_REGISTRY
from models.architectures.dense_detector import DenseDetector, permute_to_N_HWA_K
from models.backbones import Backbone, build_backbone
from models.box_regression import Box2BoxTransform
from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.layers import ShapeSpec, get_norm
from models.layers.batch_norm import LevelBatchNorm2d, Norm
from models.matcher import Matcher
from models.proposals import build_anchor_generator
from models.structures import ImageList, Instances
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
        focal_loss_alpha, focal_loss_gamma, smooth_l1_beta, box_reg_loss_type: of the losses.
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


class RetinaNetHead(nn.Module):
    """Two towers of 3x3 convolutions, shared by all levels: classes and boxes.

    Args:
        input_shape: per level its shape.
        num_classes: K.
        num_anchors: anchors per cell, A.
        conv_dims: channels of the towers' convolutions.
        norm: norm behind each of them; a batch norm keeps statistics for each level.
        prior_prob: what the scores begin with in training.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: Sequence[ShapeSpec],
        num_classes: int,
        num_anchors: int,
        conv_dims: Sequence[int],
        norm: Norm = "",
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__()
        self._num_levels = len(input_shape)
        channels = input_shape[0].known_channels
        self.cls_subnet = self._tower(channels, conv_dims, norm)
        self.bbox_subnet = self._tower(channels, conv_dims, norm)
        last = conv_dims[-1] if conv_dims else channels
        self.cls_score = nn.Conv2d(last, num_anchors * num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(last, num_anchors * 4, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all of them have one
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior_prob) / prior_prob))  # type: ignore[arg-type]  # it has one

    def _tower(self, channels: int, conv_dims: Sequence[int], norm: Norm) -> nn.Sequential:
        layers: list[nn.Module] = []
        for dim in conv_dims:
            layers.append(nn.Conv2d(channels, dim, 3, padding=1))
            if norm in {"BN", "SyncBN"}:
                layers.append(LevelBatchNorm2d(self._num_levels, dim))
            elif norm:
                layers.append(get_norm(norm, dim) or nn.Identity())
            layers.append(nn.ReLU(inplace=True))
            channels = dim
        return nn.Sequential(*layers)

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Sequence[ShapeSpec]) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.RETINANET``."""
        generator: Any = build_anchor_generator(cfg, input_shape)
        if len(set(generator.num_anchors)) != 1:
            raise ConfigError(
                "RetinaNet needs equally many anchors per cell on every level; "
                f"MODEL.ANCHOR_GENERATOR gives {generator.num_anchors}.",
                key="MODEL.ANCHOR_GENERATOR.SIZES",
            )
        retinanet = cfg.MODEL.RETINANET
        return {
            "input_shape": input_shape,
            "num_classes": retinanet.NUM_CLASSES,
            "num_anchors": generator.num_anchors[0],
            "conv_dims": [input_shape[0].known_channels] * retinanet.NUM_CONVS,
            "norm": retinanet.NORM,
            "prior_prob": retinanet.PRIOR_PROB,
        }

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level (N, C, H, W) -> logits (N, A * K, H, W) and deltas (N, A * 4, H, W)."""
        logits, deltas = [], []
        for level, feature in enumerate(features):
            logits.append(self.cls_score(run_tower(self.cls_subnet, feature, level)))
            deltas.append(self.bbox_pred(run_tower(self.bbox_subnet, feature, level)))
        return logits, deltas


def run_tower(tower: nn.Sequential, x: Tensor, level: int) -> Tensor:
    """Run a tower on the feature map of ``level``, which batch norms keep apart."""
    for layer in tower:
        x = layer(x, level) if isinstance(layer, LevelBatchNorm2d) else layer(x)
    return x
