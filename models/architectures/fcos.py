"""FCOS (Tian et al. 2019): one-stage detection without anchor shapes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architectures.base import Losses
from models.architectures.dense_detector import DenseDetector, permute_to_N_HWA_K
from models.architectures.dense_losses import dense_box_loss, dense_class_loss, positive_anchors
from models.architectures.retinanet_head import RetinaNetHead, run_tower
from models.backbones import Backbone
from models.box_regression import Box2BoxTransformLinear
from models.layers import ShapeSpec
from models.layers.batch_norm import Norm
from models.losses import at_least_float32
from models.proposals import DefaultAnchorGenerator
from models.structures import Boxes, ImageList, Instances
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
        # Detectron2's first guess, of which a hundred steps leave nothing.
        self.loss_normalizer = 300.0
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: tuple[list[Tensor], list[Tensor], list[Tensor]],
        gt_instances: list[Instances],
    ) -> Losses:
        """See :meth:`DenseDetector.forward_training`; the losses are those of :meth:`dense_losses`."""
        anchors = self.anchor_generator(features)
        logits, deltas, centerness = (
            [permute_to_N_HWA_K(level, channels) for level in levels]
            for levels, channels in zip(predictions, (self.num_classes, 4, 1), strict=True)
        )
        labels, gt_boxes = self.label_anchors(anchors, gt_instances)
        return self.dense_losses(anchors, logits, labels, deltas, gt_boxes, centerness)

    def dense_losses(
        self,
        anchors: Sequence[Boxes],
        pred_logits: Sequence[Tensor],
        gt_labels: Sequence[Tensor],
        pred_anchor_deltas: Sequence[Tensor],
        gt_boxes: Sequence[Tensor],
        pred_centerness: Sequence[Tensor],
    ) -> Losses:
        """``loss_fcos_cls``, ``loss_fcos_loc`` (GIoU) and ``loss_fcos_ctr`` (binary cross entropy).

        Args:
            anchors, pred_logits, gt_labels, pred_anchor_deltas, gt_boxes: as of
                :meth:`RetinaNet.dense_losses`.
            pred_centerness: per level (N, Hi * Wi, 1) logits.
        """
        labels, boxes = torch.stack(list(gt_labels)), torch.stack(list(gt_boxes))
        everywhere = Boxes.cat(list(anchors)).tensor
        positive = positive_anchors(labels, self.num_classes)
        centerness = at_least_float32(torch.cat(list(pred_centerness), dim=1)[positive][:, 0])
        targets = self.centerness_targets(everywhere[positive[1]], boxes[positive])
        losses = {
            "loss_fcos_cls": dense_class_loss(
                pred_logits, labels, alpha=self.focal_loss_alpha, gamma=self.focal_loss_gamma
            ),
            "loss_fcos_loc": dense_box_loss(
                "giou", self.box2box_transform, everywhere, pred_anchor_deltas, positive, boxes
            ),
            "loss_fcos_ctr": F.binary_cross_entropy_with_logits(
                centerness, targets.to(centerness.dtype), reduction="sum"
            ),
        }
        normalizer = self.next_normalizer(len(positive[0]), len(labels))
        return {name: loss / normalizer for name, loss in losses.items()}

    def centerness_targets(self, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """(P,) how central each anchor's middle lies in its box (eq. 3 of the paper): 1 in its middle.

        Args:
            anchors: (P, 4).
            gt_boxes: (P, 4) boxes in which the anchors' middles lie.
        """
        left, top, right, bottom = self.box2box_transform.get_deltas(anchors, gt_boxes).unbind(1)
        across = torch.minimum(left, right) / torch.maximum(left, right)
        down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
        return torch.sqrt(across * down)

    @torch.no_grad()
    def label_anchors(
        self, anchors: Sequence[Boxes], gt_instances: Sequence[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What each anchor should have become, as :meth:`RetinaNet.label_anchors`; none is ignored.

        An anchor belongs to the smallest of the boxes that its middle lies in, close to their centre,
        and whose sides are as far away as its level is made for (Tian et al., FCOS, §3.2).
        """
        everywhere = Boxes.cat(list(anchors))
        sides = everywhere.tensor[:, 2] - everywhere.tensor[:, 0]
        nearest, farthest = 4 * sides, 8 * sides
        # Nothing is too small for the finest level, nothing too large for the coarsest.
        nearest[: len(anchors[0])] = 0
        farthest[len(farthest) - len(anchors[-1]) :] = torch.inf
        middles = everywhere.get_centers()
        labels, boxes = [], []
        for truth in gt_instances:
            if len(truth) == 0:
                labels.append(middles.new_full((len(middles),), self.num_classes).long())
                boxes.append(torch.zeros_like(everywhere.tensor))
                continue
            gt_boxes = truth.gt_boxes.tensor[:, None]
            # (G, R, 4): from each middle to the left, top, right and bottom side of each box.
            reach = torch.cat((middles - gt_boxes[..., :2], gt_boxes[..., 2:] - middles), dim=2)
            off_center = (middles - truth.gt_boxes.get_centers()[:, None]).abs().amax(dim=2)
            reaches = reach.amax(dim=2)
            fits = (
                (off_center < self.center_sampling_radius * sides)
                & (reach.amin(dim=2) > 0)
                & (reaches > nearest)
                & (reaches < farthest)
            )
            areas = truth.gt_boxes.area()[:, None].where(fits, torch.inf)
            area, matches = areas.min(dim=0)
            classes = truth.gt_classes[matches]
            classes[area.isinf()] = self.num_classes
            labels.append(classes)
            boxes.append(truth.gt_boxes.tensor[matches])
        return labels, boxes

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
