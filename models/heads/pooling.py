"""What the config says about the pooling of regions for a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import ConfigError
from models.layers import ShapeSpec
from models.poolers import ROIPooler


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
