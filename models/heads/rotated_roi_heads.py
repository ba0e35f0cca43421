"""RoI heads for rotated boxes.

Shapes as in :mod:`models.heads.fast_rcnn`, with B = 5 numbers per box.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.box_regression import Box2BoxTransformRotated
from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.heads.box_head import build_box_head
from models.heads.fast_rcnn import FastRCNNOutputLayers
from models.heads.pooling import pooled_shape, pooler_from_config
from models.heads.roi_heads import ROI_HEADS_REGISTRY
from models.heads.standard_roi_heads import StandardROIHeads
from models.layers import ShapeSpec


class RotatedFastRCNNOutputLayers(FastRCNNOutputLayers):
    """:class:`FastRCNNOutputLayers` for rotated boxes: five deltas per box."""

    @classmethod
    def from_config(cls, cfg: Config, input_shape: ShapeSpec) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.ROI_HEADS`` and ``ROI_BOX_HEAD``."""
        weights = tuple(cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS)
        if len(weights) != 5:
            raise ConfigError(
                f"MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS has {len(weights)} numbers; rotated boxes "
                "need 5, the last one for the angle.",
                key="MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS",
            )
        keywords = super().from_config(cfg, input_shape)
        return {**keywords, "box2box_transform": Box2BoxTransformRotated(weights)}


@ROI_HEADS_REGISTRY.register()
class RROIHeads(StandardROIHeads):
    """Pools rotated proposals and predicts rotated boxes; masks and keypoints do not exist for them.

    Takes the arguments of :class:`StandardROIHeads` for the box head.
    """

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Keywords from the config.

        Raises:
            ConfigError: the config asks for masks, for keypoints or for training on predicted
                boxes, or the pooler is not ROIAlignRotated.
        """
        for key, wanted in (
            ("MODEL.MASK_ON", cfg.MODEL.MASK_ON),
            ("MODEL.KEYPOINT_ON", cfg.MODEL.KEYPOINT_ON),
            ("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES),
        ):
            if wanted:
                raise ConfigError(f"{key} does not go with rotated boxes (RROIHeads).", key=key)
        return super().from_config(cfg, input_shape)

    @classmethod
    def _init_box_head(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        cfg_head = cfg.MODEL.ROI_BOX_HEAD
        if cfg_head.POOLER_TYPE != "ROIAlignRotated":
            raise ConfigError(
                f"MODEL.ROI_BOX_HEAD.POOLER_TYPE is {cfg_head.POOLER_TYPE!r}; RROIHeads need "
                "'ROIAlignRotated'.",
                key="MODEL.ROI_BOX_HEAD.POOLER_TYPE",
            )
        pooler = pooler_from_config(cfg_head, input_shape, in_features)
        box_head: Any = build_box_head(cfg, pooled_shape(cfg_head, input_shape, in_features))
        return {
            "box_in_features": in_features,
            "box_pooler": pooler,
            "box_head": box_head,
            "box_predictor": RotatedFastRCNNOutputLayers(cfg, box_head.output_shape),
        }
