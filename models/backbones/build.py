"""The registry of backbones and the function that builds the one a config names."""

from __future__ import annotations

from models.backbones.backbone import Backbone
from models.config import Config
from models.errors import ConfigError
from models.layers import ShapeSpec
from models.registry import Registry

BACKBONE_REGISTRY = Registry("BACKBONE", key="MODEL.BACKBONE.NAME")
"""Called as ``obj(cfg, input_shape)`` with a :class:`ShapeSpec`; returns a :class:`Backbone`."""


def build_backbone(cfg: Config, input_shape: ShapeSpec | None = None) -> Backbone:
    """The backbone ``cfg.MODEL.BACKBONE.NAME``; the input has as many channels as PIXEL_MEAN."""
    if input_shape is None:
        input_shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg, input_shape)
    if not isinstance(backbone, Backbone):
        raise ConfigError(f"{cfg.MODEL.BACKBONE.NAME} returned no Backbone.")
    return backbone
