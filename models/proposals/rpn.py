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
from models.layers import Conv2d, ShapeSpec
from models.matcher import Matcher
from models.proposals.anchor_generator import build_anchor_generator
from models.proposals.build import PROPOSAL_GENERATOR_REGISTRY
from models.proposals.selection import find_top_rpn_proposals
from models.registry import Registry
from models.structures import ImageList, Instances

RPN_HEAD_REGISTRY = Registry("RPN_HEAD", key="MODEL.RPN.HEAD_NAME")
"""Called as ``obj(cfg, input_shape)`` with a list of :class:`ShapeSpec`, one per feature map."""


@RPN_HEAD_REGISTRY.register()
class StandardRPNHead(nn.Module):
    """A shared 3x3 convolution, then 1x1 convolutions for objectness and anchor deltas.

    Args:
        in_channels: channels of every feature map.
        num_anchors: anchors per cell, A.
        box_dim: numbers per box, B.
        conv_dims: channels of the convolutions, -1 is ``in_channels``. One convolution is named
            ``conv``; several are ``conv.conv0``, ``conv.conv1``, ...
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_anchors: int,
        box_dim: int = 4,
        conv_dims: Sequence[int] = (-1,),
    ) -> None:
        super().__init__()
        channels = in_channels
        convs: list[Conv2d] = []
        for dim in conv_dims:
            out_channels = channels if dim == -1 else dim
            if out_channels <= 0:
                raise ConfigError(
                    f"MODEL.RPN.CONV_DIMS holds {dim}; a number of channels is positive, or -1.",
                    key="MODEL.RPN.CONV_DIMS",
                )
            convs.append(
                Conv2d(channels, out_channels, kernel_size=3, padding=1, activation=F.relu_)
            )
            channels = out_channels
        self.conv: nn.Module
        if len(convs) == 1:
            self.conv = convs[0]
        else:
            self.conv = nn.Sequential()
            for i, conv in enumerate(convs):
                self.conv.add_module(f"conv{i}", conv)
        self.objectness_logits = nn.Conv2d(channels, num_anchors, kernel_size=1)
        self.anchor_deltas = nn.Conv2d(channels, num_anchors * box_dim, kernel_size=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # all of them have one

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Sequence[ShapeSpec]) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.RPN`` and the anchor generator."""
        in_channels = {shape.known_channels for shape in input_shape}
        if len(in_channels) != 1:
            raise ConfigError(
                f"The RPN head is shared by all levels, which have {sorted(in_channels)} channels.",
                key="MODEL.RPN.IN_FEATURES",
            )
        anchor_generator: Any = build_anchor_generator(cfg, input_shape)
        num_anchors = set(anchor_generator.num_anchors)
        if len(num_anchors) != 1:
            raise ConfigError(
                "The RPN head needs equally many anchors per cell on every level; "
                f"MODEL.ANCHOR_GENERATOR gives {anchor_generator.num_anchors}.",
                key="MODEL.ANCHOR_GENERATOR.SIZES",
            )
        return {
            "in_channels": in_channels.pop(),
            "num_anchors": num_anchors.pop(),
            "box_dim": anchor_generator.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level (N, C, H, W) -> objectness logits (N, A, H, W) and deltas (N, A * B, H, W)."""
        logits, deltas = [], []
        for feature in features:
            hidden = self.conv(feature)
            logits.append(self.objectness_logits(hidden))
            deltas.append(self.anchor_deltas(hidden))
        return logits, deltas


def build_rpn_head(cfg: Config, input_shape: Sequence[ShapeSpec]) -> nn.Module:
    """The head ``cfg.MODEL.RPN.HEAD_NAME``."""
    head: nn.Module = RPN_HEAD_REGISTRY.get(cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)
    return head


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
        box_reg_loss_type: "smooth_l1" or "giou".
        smooth_l1_beta: where smooth L1 turns from a parabola into a line; 0 is plain L1.
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
            gt_instances: ground truth, for training.

        Returns:
            Per image its proposals (``proposal_boxes``, ``objectness_logits``), best first; and the
            losses by name, empty in inference.
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
        proposals = self.predict_proposals(anchors, flat_logits, flat_deltas, images.image_sizes)
        return proposals, {}

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
