"""The registry of proposal generators and the function that builds the one a config names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from models.config import Config
from models.layers import ShapeSpec
from models.registry import Registry

PROPOSAL_GENERATOR_REGISTRY = Registry("PROPOSAL_GENERATOR", key="MODEL.PROPOSAL_GENERATOR.NAME")
"""Called as ``obj(cfg, input_shape)`` with the backbone's output shape; returns a module."""


def build_proposal_generator(cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> nn.Module | None:
    """The generator ``cfg.MODEL.PROPOSAL_GENERATOR.NAME``; None for "PrecomputedProposals"."""
    name: str = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if name == "PrecomputedProposals":
        return None
    generator: nn.Module = PROPOSAL_GENERATOR_REGISTRY.get(name)(cfg, input_shape)
    return generator
