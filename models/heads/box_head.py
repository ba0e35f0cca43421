"""The layers between a pooled region and its class and box predictors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.layers import Conv2d, ShapeSpec, get_norm
from models.layers.weight_init import c2_msra_fill, c2_xavier_fill
from models.registry import Registry

ROI_BOX_HEAD_REGISTRY = Registry("ROI_BOX_HEAD", key="MODEL.ROI_BOX_HEAD.NAME")
"""Called as ``obj(cfg, input_shape)``; returns a module with an ``output_shape``."""


@ROI_BOX_HEAD_REGISTRY.register()
class FastRCNNConvFCHead(nn.Sequential):
    """Several 3x3 convolutions (with norm and ReLU), then several linear layers (with ReLU).

    Args:
        input_shape: of the pooled regions, with channels, height and width.
        conv_dims: channels of the convolutions ``conv1``, ``conv2``, ...
        fc_dims: widths of the linear layers ``fc1``, ``fc2``, ...
        conv_norm: norm of the convolutions; they have a bias only without one.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dims: Sequence[int],
        fc_dims: Sequence[int],
        conv_norm: str = "",
    ) -> None:
        super().__init__()
        if not conv_dims and not fc_dims:
            raise ConfigError(
                "The box head has no layers: set MODEL.ROI_BOX_HEAD.NUM_CONV or NUM_FC.",
                key="MODEL.ROI_BOX_HEAD.NUM_FC",
            )
        channels = input_shape.known_channels
        height, width = input_shape.height, input_shape.width
        for i, dim in enumerate(conv_dims, start=1):
            conv = Conv2d(
                channels,
                dim,
                kernel_size=3,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, dim),
                activation=F.relu_,
            )
            c2_msra_fill(conv)
            self.add_module(f"conv{i}", conv)
            channels = dim
        self._output_shape = ShapeSpec(channels=channels, height=height, width=width)
        if fc_dims:
            if height is None or width is None:
                raise ValueError(
                    "Linear layers of a box head need the height and width of its input."
                )
            self.pooled_shape = (channels, height, width)
            """Of the features behind the convolutions, which the first linear layer takes."""
            self.add_module("flatten", nn.Flatten())
            features = channels * height * width
            for i, dim in enumerate(fc_dims, start=1):
                linear = nn.Linear(features, dim)
                c2_xavier_fill(linear)
                self.add_module(f"fc{i}", linear)
                self.add_module(f"fc_relu{i}", nn.ReLU(inplace=True))
                features = dim
            self._output_shape = ShapeSpec(channels=features)

    @classmethod
    def from_config(cls, cfg: Config, input_shape: ShapeSpec) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.ROI_BOX_HEAD``."""
        head = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "conv_dims": [head.CONV_DIM] * head.NUM_CONV,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "conv_norm": head.NORM,
        }

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, H, W) -> (R, F), or (R, C', H, W) without linear layers."""
        for layer in self:
            x = layer(x)
        return x

    @property
    def output_shape(self) -> ShapeSpec:
        """Shape of one region behind this head."""
        return self._output_shape


def build_box_head(cfg: Config, input_shape: ShapeSpec) -> nn.Module:
    """The head ``cfg.MODEL.ROI_BOX_HEAD.NAME``."""
    head: nn.Module = ROI_BOX_HEAD_REGISTRY.get(cfg.MODEL.ROI_BOX_HEAD.NAME)(cfg, input_shape)
    return head
