"""Rotated anchors: boxes of fixed sizes, shapes and angles at every cell of a feature map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.config import Config
from models.configurable import configurable
from models.layers import ShapeSpec
from models.proposals.anchor_generator import (
    ANCHOR_GENERATOR_REGISTRY,
    GridAnchorGenerator,
    _per_level,
)
from models.structures import RotatedBoxes


@ANCHOR_GENERATOR_REGISTRY.register()
class RotatedAnchorGenerator(GridAnchorGenerator):
    """Anchors (x_ctr, y_ctr, w, h, angle) (Ma et al. 2018, RRPN).

    Args:
        sizes: per level the anchors' sides (square root of the area) in image pixels.
        aspect_ratios: per level the ratios height / width.
        angles: per level the angles, in degrees counter-clockwise.
        strides: stride of each feature map.
        offset: where in its cell an anchor's centre lies, 0 is the corner, 0.5 the middle.
    """

    box_dim = 5

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[Any],
        aspect_ratios: Sequence[Any],
        angles: Sequence[Any],
        strides: Sequence[int],
        offset: float = 0.5,
    ) -> None:
        super().__init__(strides=strides, offset=offset)
        levels = zip(
            _per_level(sizes, len(self.strides), "MODEL.ANCHOR_GENERATOR.SIZES"),
            _per_level(aspect_ratios, len(self.strides), "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"),
            _per_level(angles, len(self.strides), "MODEL.ANCHOR_GENERATOR.ANGLES"),
            strict=True,
        )
        for level, (level_sizes, level_ratios, level_angles) in enumerate(levels):
            anchors = self.generate_cell_anchors(level_sizes, level_ratios, level_angles)
            self.register_buffer(f"cell_anchors_{level}", anchors, persistent=False)

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Sequence[ShapeSpec]) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.ANCHOR_GENERATOR``."""
        generator = cfg.MODEL.ANCHOR_GENERATOR
        return {
            "sizes": generator.SIZES,
            "aspect_ratios": generator.ASPECT_RATIOS,
            "angles": generator.ANGLES,
            "strides": [shape.known_stride for shape in input_shape],
            "offset": generator.OFFSET,
        }

    @staticmethod
    def generate_cell_anchors(
        sizes: Sequence[float], aspect_ratios: Sequence[float], angles: Sequence[float]
    ) -> Tensor:
        """(A, 5) anchors around (0, 0): sizes outer, then ratios, angles inner; not rounded."""
        anchors: list[list[float]] = []
        for size in sizes:
            for ratio in aspect_ratios:
                width = math.sqrt(size**2 / ratio)
                anchors.extend([0.0, 0.0, width, ratio * width, angle] for angle in angles)
        return torch.tensor(anchors, dtype=torch.float32).reshape(-1, 5)

    def forward(self, features: Sequence[Tensor]) -> list[RotatedBoxes]:
        """Per feature map (N, C, H, W) its H * W * A anchors, row by row, A at each cell."""
        levels = []
        for feature, stride, base in zip(features, self.strides, self.cell_anchors(), strict=True):
            xs, ys = self.centers(feature, stride, base.device)
            anchors = base.repeat(len(ys), len(xs), 1, 1)
            anchors[..., 0] += xs[None, :, None]
            anchors[..., 1] += ys[:, None, None]
            levels.append(RotatedBoxes(anchors.reshape(-1, 5)))
        return levels
