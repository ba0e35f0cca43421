"""Region Proposal Network (Ren et al. 2015, Faster R-CNN)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.box_regression import Box2BoxTransform, BoxTransform
from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.layers import ShapeSpec
from models.losses import at_least_float32, box_regression_loss, require_finite
from models.matcher import Matcher
from models.proposals.anchor_generator import build_anchor_generator
from models.proposals.anchor_sampling import AnchorSample, sample_anchors
from models.proposals.build import PROPOSAL_GENERATOR_REGISTRY
from models.proposals.rpn_head import build_rpn_head
from models.proposals.selection import find_top_rpn_proposals
from models.structures import ImageList, Instances


@PROPOSAL_GENERATOR_REGISTRY.register()
class RPN(nn.Module):
    """Scores anchors and turns the best into proposals.

    Args:
        in_features: names of the feature maps to use.
        head: see :class:`StandardRPNHead`.
        anchor_generator: see :class:`DefaultAnchorGenerator`.
        anchor_matcher: labels anchors by their ground truth, for training.
        box2box_transform: turns anchors and deltas into boxes.
        batch_size_per_image: anchors sampled per image for the loss.
        positive_fraction: at most this part of them is positive.
        pre_nms_topk: (in training, in inference) boxes per level that enter NMS.
        post_nms_topk: (in training, in inference) proposals per image.
        nms_thresh: IoU above which a proposal is suppressed.
        min_box_size: both sides of a proposal are longer, in pixels of the resized image.
        anchor_boundary_thresh: training ignores anchors that leave the image by more; -1 is off.
        loss_weight: one factor, or one for each of ``loss_rpn_cls`` and ``loss_rpn_loc``.
        box_reg_loss_type, smooth_l1_beta: see :func:`models.losses.box_regression_loss`.

    Attributes:
        training_figures: of the last training step, how many anchors an image gave on average:
            ``rpn/num_pos_anchors`` and ``rpn/num_neg_anchors``.
    """

    find_top_proposals: Callable[..., list[Instances]] = staticmethod(find_top_rpn_proposals)
    """What turns scored anchors into proposals; a subclass for other boxes has its own."""

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        head: nn.Module,
        anchor_generator: nn.Module,
        anchor_matcher: Matcher,
        box2box_transform: BoxTransform,
        batch_size_per_image: int,
        positive_fraction: float,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
        anchor_boundary_thresh: float = -1.0,
        loss_weight: float | Mapping[str, float] = 1.0,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_features = tuple(in_features)
        self.rpn_head = head
        self.anchor_generator = anchor_generator
        self.anchor_matcher = anchor_matcher
        self.box2box_transform = box2box_transform
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.pre_nms_topk = {True: pre_nms_topk[0], False: pre_nms_topk[1]}
        self.post_nms_topk = {True: post_nms_topk[0], False: post_nms_topk[1]}
        self.nms_thresh = nms_thresh
        self.min_box_size = float(min_box_size)
        self.anchor_boundary_thresh = anchor_boundary_thresh
        if not isinstance(loss_weight, Mapping):
            loss_weight = {"loss_rpn_cls": loss_weight, "loss_rpn_loc": loss_weight}
        self.loss_weight = dict(loss_weight)
        self.box_reg_loss_type = box_reg_loss_type
        self.smooth_l1_beta = smooth_l1_beta
        self.training_figures: dict[str, float | Tensor] = {}

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.RPN``."""
        rpn = cfg.MODEL.RPN
        missing = [name for name in rpn.IN_FEATURES if name not in input_shape]
        if missing:
            raise ConfigError(
                f"MODEL.RPN.IN_FEATURES names {', '.join(missing)}, which the backbone does not "
                f"return ({', '.join(input_shape)}).",
                key="MODEL.RPN.IN_FEATURES",
            )
        shapes = [input_shape[name] for name in rpn.IN_FEATURES]
        return {
            "in_features": rpn.IN_FEATURES,
            "head": build_rpn_head(cfg, shapes),
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "anchor_matcher": Matcher(
                rpn.IOU_THRESHOLDS, rpn.IOU_LABELS, allow_low_quality_matches=True
            ),
            "box2box_transform": Box2BoxTransform(weights=tuple(rpn.BBOX_REG_WEIGHTS)),
            "batch_size_per_image": rpn.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": rpn.POSITIVE_FRACTION,
            "pre_nms_topk": (rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (rpn.POST_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TEST),
            "nms_thresh": rpn.NMS_THRESH,
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
            "anchor_boundary_thresh": rpn.BOUNDARY_THRESH,
            "loss_weight": {
                "loss_rpn_cls": rpn.LOSS_WEIGHT,
                "loss_rpn_loc": rpn.BBOX_REG_LOSS_WEIGHT * rpn.LOSS_WEIGHT,
            },
            "box_reg_loss_type": rpn.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": rpn.SMOOTH_L1_BETA,
        }

    def forward(
        self,
        images: ImageList,
        features: Mapping[str, Tensor],
        gt_instances: Sequence[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Proposals of N images.

        Args:
            images: the batch; only the sizes are used.
            features: feature maps (N, C, H, W) by name.
            gt_instances: per image its ``gt_boxes``, in training.

        Returns:
            Per image its proposals (``proposal_boxes``, ``objectness_logits``), best first; and the
            losses by name (``loss_rpn_cls``, ``loss_rpn_loc``), empty in inference.

        Raises:
            ValueError: there is no ground truth in training.
            FloatingPointError: a prediction is not finite in training.
        """
        levels = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(levels)
        logits, deltas = self.rpn_head(levels)
        box_dim = self.anchor_generator.box_dim
        # (N, A, H, W) -> (N, H * W * A): the order in which the anchors are laid out.
        flat_logits = [level.permute(0, 2, 3, 1).flatten(1) for level in logits]
        flat_deltas = [
            level.view(level.shape[0], -1, box_dim, *level.shape[-2:])
            .permute(0, 3, 4, 1, 2)
            .flatten(1, -2)
            for level in deltas
        ]
        losses: dict[str, Tensor] = {}
        if self.training:
            if gt_instances is None:
                raise ValueError("The region proposal network needs ground truth in training.")
            require_finite("The region proposal network", *flat_logits, *flat_deltas)
            all_anchors = type(anchors[0]).cat(anchors)
            samples = [self.sample_anchors(all_anchors, truth) for truth in gt_instances]
            losses = self.losses(all_anchors, flat_logits, flat_deltas, samples)
        proposals = self.predict_proposals(anchors, flat_logits, flat_deltas, images.image_sizes)
        return proposals, losses

    def sample_anchors(self, anchors: Any, truth: Instances) -> AnchorSample:
        """The anchors (of all levels) of one image that its losses are computed on."""
        return sample_anchors(
            anchors,
            truth,
            matcher=self.anchor_matcher,
            batch_size=self.batch_size_per_image,
            positive_fraction=self.positive_fraction,
            boundary_thresh=self.anchor_boundary_thresh,
        )

    def losses(
        self,
        anchors: Any,
        pred_objectness_logits: Sequence[Tensor],
        pred_anchor_deltas: Sequence[Tensor],
        samples: Sequence[AnchorSample],
    ) -> dict[str, Tensor]:
        """Objectness by binary cross entropy and the boxes of positive anchors.

        Both are sums over the sampled anchors, divided by N * ``batch_size_per_image`` however many
        there were.

        Args:
            anchors: of all levels.
            pred_objectness_logits, pred_anchor_deltas: per level, see :meth:`predict_proposals`.
            samples: per image what :meth:`sample_anchors` gave.
        """
        logits, deltas = (
            torch.cat(list(pred_objectness_logits), 1),
            torch.cat(list(pred_anchor_deltas), 1),
        )
        num_images, num_anchors = logits.shape
        # Of all images one after the other: the places in their flattened predictions.
        positive = torch.cat([s.positive + i * num_anchors for i, s in enumerate(samples)])
        negative = torch.cat([s.negative + i * num_anchors for i, s in enumerate(samples)])
        chosen = at_least_float32(logits.flatten()[torch.cat((positive, negative))])
        is_object = torch.zeros_like(chosen)
        is_object[: len(positive)] = 1
        normalizer = self.batch_size_per_image * num_images
        losses = {
            "loss_rpn_cls": F.binary_cross_entropy_with_logits(chosen, is_object, reduction="sum"),
            "loss_rpn_loc": box_regression_loss(
                self.box_reg_loss_type,
                self.box2box_transform,
                deltas.flatten(0, 1)[positive],
                anchors.tensor[torch.cat([s.positive for s in samples])],
                torch.cat([s.gt_boxes for s in samples]),
                smooth_l1_beta=self.smooth_l1_beta,
            ),
        }
        self.training_figures = {
            "rpn/num_pos_anchors": len(positive) / num_images,
            "rpn/num_neg_anchors": len(negative) / num_images,
        }
        return {
            name: loss * (self.loss_weight.get(name, 1.0) / normalizer)
            for name, loss in losses.items()
        }

    def predict_proposals(
        self,
        anchors: Sequence[Any],
        pred_objectness_logits: Sequence[Tensor],
        pred_anchor_deltas: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[Instances]:
        """See :func:`find_top_rpn_proposals`; no gradient flows through the proposals."""
        with torch.no_grad():
            return self.find_top_proposals(
                anchors,
                pred_objectness_logits,
                pred_anchor_deltas,
                image_sizes,
                box2box_transform=self.box2box_transform,
                nms_thresh=self.nms_thresh,
                pre_nms_topk=self.pre_nms_topk[self.training],
                post_nms_topk=self.post_nms_topk[self.training],
                min_box_size=self.min_box_size,
            )
