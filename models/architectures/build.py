"""The registry of whole models and the function that builds the one a config names."""

from __future__ import annotations

from torch import nn

from models.architectures.lazy import build_lazy_model
from models.config import Config
from models.config.lazy_tags import LAZY_KEY
from models.registry import Registry

META_ARCH_REGISTRY = Registry("META_ARCH", key="MODEL.META_ARCHITECTURE")
"""Called as ``obj(cfg)``; returns the whole model."""


def build_model(cfg: Config) -> nn.Module:
    """The model ``cfg.MODEL.META_ARCHITECTURE`` on the CPU, in evaluation mode, without weights.

    Move it with ``.to(device)`` and give it weights with :func:`models.load_checkpoint`;
    ``cfg.MODEL.DEVICE`` and ``cfg.MODEL.WEIGHTS`` are not read, since where a model was trained
    says nothing about where it is served.

    Raises:
        ConfigError: the config names something unknown, or its parts do not fit together.
    """
    if LAZY_KEY in cfg:  # from a dumped lazy config, which says itself what to call
        return build_lazy_model(cfg[LAZY_KEY].to_dict()).eval()
    model: nn.Module = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.eval()
