"""The head of RetinaNet: two towers of convolutions on every level of a pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.layers import ShapeSpec, get_norm
from models.layers.batch_norm import LevelBatchNorm2d, Norm
from models.proposals import build_anchor_generator


class RetinaNetHead(nn.Module):
    """Two towers of 3x3 convolutions, shared by all levels: classes and boxes.

    Args:
        input_shape: per level its shape.
        num_classes: K.
        num_anchors: anchors per cell, A.
        conv_dims: channels of the towers' convolutions.
        norm: norm behind each of them; a batch norm keeps statistics for each level.
        prior_prob: what the scores begin with in training.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: Sequence[ShapeSpec],
        num_classes: int,
        num_anchors: int,
        conv_dims: Sequence[int],
        norm: Norm = "",
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__()
        self._num_levels = len(input_shape)
        channels = input_shape[0].known_channels
        self.cls_subnet = self._tower(channels, conv_dims, norm)
        self.bbox_subnet = self._tower(channels, conv_dims, norm)
        last = conv_dims[-1] if conv_dims else channels
        self.cls_score = nn.Conv2d(last, num_anchors * num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(last, num_anchors * 4, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all of them have one
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior_prob) / prior_prob))  # type: ignore[arg-type]  # it has one

    def _tower(self, channels: int, conv_dims: Sequence[int], norm: Norm) -> nn.Sequential:
        layers: list[nn.Module] = []
        for dim in conv_dims:
            layers.append(nn.Conv2d(channels, dim, 3, padding=1))
            if norm in {"BN", "SyncBN"}:
                layers.append(LevelBatchNorm2d(self._num_levels, dim))
            elif norm:
                layers.append(get_norm(norm, dim) or nn.Identity())
            layers.append(nn.ReLU(inplace=True))
            channels = dim
        return nn.Sequential(*layers)

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Sequence[ShapeSpec]) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.RETINANET``."""
        generator: Any = build_anchor_generator(cfg, input_shape)
        if len(set(generator.num_anchors)) != 1:
            raise ConfigError(
                "RetinaNet needs equally many anchors per cell on every level; "
                f"MODEL.ANCHOR_GENERATOR gives {generator.num_anchors}.",
                key="MODEL.ANCHOR_GENERATOR.SIZES",
            )
        retinanet = cfg.MODEL.RETINANET
        return {
            "input_shape": input_shape,
            "num_classes": retinanet.NUM_CLASSES,
            "num_anchors": generator.num_anchors[0],
            "conv_dims": [input_shape[0].known_channels] * retinanet.NUM_CONVS,
            "norm": retinanet.NORM,
            "prior_prob": retinanet.PRIOR_PROB,
        }

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level (N, C, H, W) -> logits (N, A * K, H, W) and deltas (N, A * 4, H, W)."""
        logits, deltas = [], []
        for level, feature in enumerate(features):
            logits.append(self.cls_score(run_tower(self.cls_subnet, feature, level)))
            deltas.append(self.bbox_pred(run_tower(self.bbox_subnet, feature, level)))
        return logits, deltas


def run_tower(tower: nn.Sequential, x: Tensor, level: int) -> Tensor:
    """Run a tower on the feature map of ``level``, which batch norms keep apart."""
    for layer in tower:
        x = layer(x, level) if isinstance(layer, LevelBatchNorm2d) else layer(x)
    return x
