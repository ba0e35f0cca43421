"""RoI heads: all per-region computation of an R-CNN, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.heads.box_head import build_box_head
from models.heads.fast_rcnn import FastRCNNOutputLayers
from models.heads.keypoint_head import build_keypoint_head
from models.heads.mask_head import build_mask_head
from models.layers import ShapeSpec
from models.matcher import Matcher
from models.poolers import ROIPooler
from models.registry import Registry
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
            targets: ground truth, for training.
            wanted: see :meth:`detect_boxes`.

        Returns:
            Per image its detections in inference; the losses by name in training.
        """
        # Heads of somebody's own need not know of overrides.
        instances = (
            self.detect_boxes(features, proposals)
            if wanted is None
            else self.detect_boxes(features, proposals, wanted)
        )
        return self.forward_with_given_boxes(features, instances), {}

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


def pooler_from_config(
    cfg_head: Any, input_shape: Mapping[str, ShapeSpec], in_features: Sequence[str]
) -> ROIPooler:
    """The pooler that a head's part of the config (ROI_BOX_HEAD, ROI_MASK_HEAD) describes."""
    missing = [name for name in in_features if name not in input_shape]
    if missing:
        raise ConfigError(
            f"MODEL.ROI_HEADS.IN_FEATURES names {', '.join(missing)}, which the backbone does not "
            f"return ({', '.join(input_shape)}).",
            key="MODEL.ROI_HEADS.IN_FEATURES",
        )
    return ROIPooler(
        output_size=cfg_head.POOLER_RESOLUTION,
        scales=[1.0 / input_shape[name].known_stride for name in in_features],
        sampling_ratio=cfg_head.POOLER_SAMPLING_RATIO,
        pooler_type=cfg_head.POOLER_TYPE,
    )


def pooled_shape(
    cfg_head: Any, input_shape: Mapping[str, ShapeSpec], in_features: Sequence[str]
) -> ShapeSpec:
    channels = {input_shape[name].known_channels for name in in_features}
    if len(channels) != 1:
        raise ConfigError(
            f"Feature maps of one pooler have equal channels, not {sorted(channels)}.",
            key="MODEL.ROI_HEADS.IN_FEATURES",
        )
    side = cfg_head.POOLER_RESOLUTION
    return ShapeSpec(channels=channels.pop(), height=side, width=side)


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
        if self.mask_on:
            regions = self._regions(self.mask_pooler, self.mask_in_features, features, instances)
            instances = self.mask_head(regions, instances)
        if self.keypoint_on:
            regions = self._regions(
                self.keypoint_pooler, self.keypoint_in_features, features, instances
            )
            instances = self.keypoint_head(regions, instances)
        return instances

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
            self.keypoint_pooler, self.keypoint_in_features, features, instances
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
        instances: list[Instances],
    ) -> Tensor | dict[str, Tensor]:
        """What a head takes: pooled regions, or the feature maps if it pools by itself."""
        if pooler is None:
            return {name: features[name] for name in names}
        pooled: Tensor = pooler(
            [features[name] for name in names], [x.pred_boxes for x in instances]
        )
        return pooled


def build_roi_heads(cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """The heads ``cfg.MODEL.ROI_HEADS.NAME``."""
    heads: nn.Module = ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)
    return heads
