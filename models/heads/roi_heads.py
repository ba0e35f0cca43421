"""RoI heads: all per-region computation of an R-CNN, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.config import Config
from models.configurable import configurable
from models.heads.proposal_sampling import add_ground_truth_to_proposals, match_proposals
from models.layers import ShapeSpec
from models.matcher import Matcher
from models.registry import Registry
from models.sampling import subsample_labels
from models.structures import ImageList, Instances
from models.wanted import Wanted

ROI_HEADS_REGISTRY = Registry("ROI_HEADS", key="MODEL.ROI_HEADS.NAME")
"""Called as ``obj(cfg, input_shape)`` with the backbone's output shape; returns :class:`ROIHeads`."""


class ROIHeads(nn.Module):
    """Base class: what it takes to match and sample proposals; subclasses compute.

    Args:
        num_classes: foreground classes, K.
        batch_size_per_image: proposals sampled per image, for training.
        positive_fraction: at most this part of them is positive.
        proposal_matcher: labels proposals by their ground truth.
        proposal_append_gt: whether ground-truth boxes are proposals too, in training.

    Attributes:
        training_figures: of the last training step, how many proposals an image gave on average,
            ``roi_head/num_fg_samples`` and ``roi_head/num_bg_samples``, and those of the heads.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.proposal_matcher = proposal_matcher
        self.proposal_append_gt = proposal_append_gt
        self.training_figures: dict[str, float | Tensor] = {}

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.ROI_HEADS``."""
        heads = cfg.MODEL.ROI_HEADS
        return {
            "num_classes": heads.NUM_CLASSES,
            "batch_size_per_image": heads.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": heads.POSITIVE_FRACTION,
            "proposal_matcher": Matcher(heads.IOU_THRESHOLDS, heads.IOU_LABELS),
            "proposal_append_gt": heads.PROPOSAL_APPEND_GT,
        }

    def forward(
        self,
        images: ImageList,
        features: Mapping[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
        *,
        wanted: Sequence[Wanted] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Detections of N images.

        Args:
            images: the batch.
            features: feature maps (N, C, H, W) by name.
            proposals: per image its proposals (``proposal_boxes``, ``objectness_logits``).
            targets: per image its ground truth, in training.
            wanted: see :meth:`detect_boxes`.

        Returns:
            Per image its detections, and no losses. In training the proposals as they came, and the
            losses by name.

        Raises:
            ValueError: there is no ground truth in training.
        """
        if self.training:
            if targets is None:
                raise ValueError("RoI heads need ground truth in training.")
            return proposals, self.losses(features, proposals, targets)
        # Heads of somebody's own need not know of overrides.
        instances = (
            self.detect_boxes(features, proposals)
            if wanted is None
            else self.detect_boxes(features, proposals, wanted)
        )
        return self.forward_with_given_boxes(features, instances), {}

    def losses(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances],
    ) -> dict[str, Tensor]:
        """The losses of all heads, scalars by name; arguments as of :meth:`forward`."""
        raise NotImplementedError

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """Match proposals with objects and draw those that the losses are computed on.

        Args:
            proposals: per image its ``proposal_boxes``, and ``objectness_logits`` where there are.
            targets: per image its objects: ``gt_boxes``, ``gt_classes`` and other ``gt_`` fields.

        Returns:
            Per image at most ``batch_size_per_image`` proposals, with ``gt_classes`` (K for the
            background) and, if the image has objects, every ``gt_`` field of the object that each
            is matched with; of the background it means nothing.
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        sampled = []
        num_foreground = num_background = 0
        for found, truth in zip(proposals, targets, strict=True):
            matches, classes = match_proposals(
                found, truth, self.proposal_matcher, self.num_classes
            )
            foreground, background = subsample_labels(
                classes, self.batch_size_per_image, self.positive_fraction, self.num_classes
            )
            num_foreground += len(foreground)
            num_background += len(background)
            index = torch.cat((foreground, background))
            chosen = found[index]
            chosen.gt_classes = classes[index]
            for name, value in truth.get_fields().items() if len(truth) else ():
                if name.startswith("gt_") and not chosen.has(name):
                    chosen.set(name, value[matches[index]])
            sampled.append(chosen)
        self.training_figures = {
            "roi_head/num_fg_samples": num_foreground / max(len(targets), 1),
            "roi_head/num_bg_samples": num_background / max(len(targets), 1),
        }
        return sampled

    def detect_boxes(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Instances],
        wanted: Sequence[Wanted] | None = None,
    ) -> list[Instances]:
        """The first half of :meth:`forward`: ``pred_boxes``, ``scores`` and ``pred_classes`` alone.

        ``wanted`` has of each image its overrides; None is without. Nothing is left out here.
        """
        raise NotImplementedError

    def forward_with_given_boxes(
        self, features: Mapping[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """The second half: the other outputs for known ``pred_boxes`` and ``pred_classes``.

        Args:
            features: as in :meth:`forward`.
            instances: per image; changed in place.

        Returns:
            The same objects, with ``pred_masks`` (Ri, 1, M, M) and ``pred_keypoints`` (Ri, K, 3), as
            the heads give them.
        """
        return instances


def build_roi_heads(cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """The heads ``cfg.MODEL.ROI_HEADS.NAME``."""
    heads: nn.Module = ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)
    return heads
