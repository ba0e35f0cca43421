"""FCOS (Tian et al. 2019): one-stage detection without anchor shapes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.architectures.dense_detector import DenseDetector, permute_to_N_HWA_K
from models.architectures.retinanet import RetinaNetHead, run_tower
from models.backbones import Backbone
from models.box_regression import Box2BoxTransformLinear
from models.layers import ShapeSpec
from models.layers.batch_norm import Norm
from models.proposals import DefaultAnchorGenerator
from models.structures import ImageList, Instances
from models.wanted import Wanted


class FCOS(DenseDetector):
    """Each cell predicts classes, the distances to the sides of its box, and how central it is.

    No YAML config describes one, as in Detectron2: it is made from its keywords or a lazy config.

    Args:
        backbone: image batch -> feature maps.
        head: see :class:`FCOSHead`.
        head_in_features: feature maps of the head, by name; default: all.
        box2box_transform: default: distances in units of the stride.
        num_classes: K.
        center_sampling_radius: of the cells that are positive, in strides, for training.
        focal_loss_alpha, focal_loss_gamma: of the loss.
        test_score_thresh, test_topk_candidates, test_nms_thresh, max_detections_per_image: as of
            :class:`RetinaNet`.
        pixel_mean, pixel_std, input_format: see :class:`DetectionModel`.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str] | None = None,
        box2box_transform: Box2BoxTransformLinear | None = None,
        num_classes: int,
        center_sampling_radius: float = 1.5,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        test_score_thresh: float = 0.2,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.6,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str = "BGR",
    ) -> None:
        super().__init__(
            backbone,
            head,
            head_in_features,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            input_format=input_format,
        )
        self.num_classes = num_classes
        shapes = backbone.output_shape()
        strides = [shapes[name].known_stride for name in self.head_in_features]
        # One square of the stride's size around the middle of each cell.
        self.anchor_generator = DefaultAnchorGenerator(
            sizes=[[stride] for stride in strides],
            aspect_ratios=[1.0],
            strides=strides,
            offset=0.5,
        )
        self.box2box_transform = box2box_transform or Box2BoxTransformLinear(normalize_by_size=True)
        self.center_sampling_radius = center_sampling_radius
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image

    def forward_inference(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: tuple[list[Tensor], list[Tensor], list[Tensor]],
        *,
        wanted: Sequence[Wanted] | None = None,
    ) -> list[Instances]:
        """See :meth:`DenseDetector.forward_inference`; a score is √(class · centre-ness)."""
        anchors = self.anchor_generator(features)
        logits, deltas, centerness = (
            [permute_to_N_HWA_K(level, channels) for level in levels]
            for levels, channels in zip(predictions, (self.num_classes, 4, 1), strict=True)
        )
        scores = [
            torch.sqrt(cls.sigmoid() * center.sigmoid())
            for cls, center in zip(logits, centerness, strict=True)
        ]
        return self.detections(anchors, scores, deltas, images.image_sizes, wanted)


class FCOSHead(RetinaNetHead):
    """A :class:`RetinaNetHead` with one "anchor" per cell and a centre-ness predictor.

    Args:
        input_shape, num_classes, conv_dims, norm, prior_prob: as of :class:`RetinaNetHead`.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[ShapeSpec],
        num_classes: int,
        conv_dims: Sequence[int],
        norm: Norm = "",
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__(
            input_shape=input_shape,
            num_classes=num_classes,
            num_anchors=1,
            conv_dims=conv_dims,
            norm=norm,
            prior_prob=prior_prob,
        )
        last = conv_dims[-1] if conv_dims else input_shape[0].known_channels
        self.ctrness = nn.Conv2d(last, 1, 3, padding=1)
        nn.init.normal_(self.ctrness.weight, std=0.01)
        nn.init.zeros_(self.ctrness.bias)  # type: ignore[arg-type]  # it has one

    def forward(  # type: ignore[override]  # one output more, as in the paper
        self, features: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Per level (N, C, H, W) -> logits (N, K, H, W), distances (N, 4, H, W), centre-ness (N, 1, H, W)."""
        logits, deltas, centerness = [], [], []
        for level, feature in enumerate(features):
            logits.append(self.cls_score(run_tower(self.cls_subnet, feature, level)))
            hidden = run_tower(self.bbox_subnet, feature, level)
            deltas.append(self.bbox_pred(hidden))
            centerness.append(self.ctrness(hidden))
        return logits, deltas, centerness
