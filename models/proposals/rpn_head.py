"""What a region proposal network predicts at each cell of the feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.layers import Conv2d, ShapeSpec
from models.proposals.anchor_generator import build_anchor_generator
from models.registry import Registry

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
