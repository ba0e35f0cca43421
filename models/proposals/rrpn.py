"""Region Proposal Network for rotated boxes (Ma et al. 2018, RRPN)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.box_regression import Box2BoxTransformRotated, BoxTransform
from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.layers import ShapeSpec, batched_nms_rotated
from models.proposals.build import PROPOSAL_GENERATOR_REGISTRY
from models.proposals.rpn import RPN
from models.proposals.selection import decode_top_anchors
from models.structures import Instances, RotatedBoxes


def find_top_rrpn_proposals(
    anchors: Sequence[RotatedBoxes],
    pred_objectness_logits: Sequence[Tensor],
    pred_anchor_deltas: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
    *,
    box2box_transform: BoxTransform,
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
) -> list[Instances]:
    """Rotated proposals of N images from the predictions of L levels, best first.

    Args:
        anchors: per level its (Hi * Wi * A) anchors.
        pred_objectness_logits: per level (N, Hi * Wi * A).
        pred_anchor_deltas: per level (N, Hi * Wi * A, 5).
        image_sizes: (height, width) of each image without padding; near-horizontal boxes are
            clipped to it (see :meth:`RotatedBoxes.clip`).
        box2box_transform: turns anchors and deltas into boxes.
        nms_thresh: boxes of one level that overlap at least so much (IoU) are suppressed.
        pre_nms_topk: how many boxes of each level enter NMS.
        post_nms_topk: how many proposals an image keeps.
        min_box_size: both sides of a proposal are longer, in pixels.

    Returns:
        Per image its proposals with ``proposal_boxes`` (:class:`RotatedBoxes`) and
        ``objectness_logits``.
    """
    all_boxes, all_logits, all_levels = decode_top_anchors(
        anchors,
        pred_objectness_logits,
        pred_anchor_deltas,
        box2box_transform=box2box_transform,
        pre_nms_topk=pre_nms_topk,
    )
    results = []
    for decoded, logits, image_size in zip(all_boxes, all_logits, image_sizes, strict=True):
        finite = torch.isfinite(decoded).all(dim=1) & torch.isfinite(logits)
        proposals, scores, levels = (
            RotatedBoxes(decoded[finite]),
            logits[finite],
            all_levels[finite],
        )
        proposals.clip(image_size)
        nonempty = proposals.nonempty(threshold=min_box_size)
        proposals, scores, levels = proposals[nonempty], scores[nonempty], levels[nonempty]
        keep = batched_nms_rotated(proposals.tensor, scores.float(), levels, nms_thresh)
        keep = keep[:post_nms_topk]
        results.append(
            Instances(image_size, proposal_boxes=proposals[keep], objectness_logits=scores[keep])
        )
    return results


@PROPOSAL_GENERATOR_REGISTRY.register()
class RRPN(RPN):
    """Scores rotated anchors and turns the best into rotated proposals.

    Takes the arguments of :class:`RPN`, with an anchor generator and a box transform for rotated
    boxes (``MODEL.RPN.BBOX_REG_WEIGHTS`` of length 5). ``anchor_boundary_thresh`` must be negative.
    """

    find_top_proposals = staticmethod(find_top_rrpn_proposals)

    @configurable
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.anchor_boundary_thresh >= 0:
            raise ConfigError(
                "RRPN cannot leave out anchors that cross the image's border: set "
                "MODEL.RPN.BOUNDARY_THRESH to -1.",
                key="MODEL.RPN.BOUNDARY_THRESH",
            )

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.RPN``."""
        weights = tuple(cfg.MODEL.RPN.BBOX_REG_WEIGHTS)
        if len(weights) != 5:
            raise ConfigError(
                f"MODEL.RPN.BBOX_REG_WEIGHTS has {len(weights)} numbers; RRPN needs 5, the last one "
                "for the angle.",
                key="MODEL.RPN.BBOX_REG_WEIGHTS",
            )
        keywords = super().from_config(cfg, input_shape)
        box_dim = keywords["anchor_generator"].box_dim
        if box_dim != 5:
            raise ConfigError(
                f"RRPN needs anchors of 5 numbers, {cfg.MODEL.ANCHOR_GENERATOR.NAME} makes them of "
                f"{box_dim}: set MODEL.ANCHOR_GENERATOR.NAME to RotatedAnchorGenerator.",
                key="MODEL.ANCHOR_GENERATOR.NAME",
            )
        return {**keywords, "box2box_transform": Box2BoxTransformRotated(weights)}
