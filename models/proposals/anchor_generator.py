"""Anchors: boxes of fixed sizes and shapes at every cell of a feature map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.layers import ShapeSpec
from models.registry import Registry
from models.structures import Boxes

ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR", key="MODEL.ANCHOR_GENERATOR.NAME")
"""Called as ``obj(cfg, input_shape)`` with a list of :class:`ShapeSpec`, one per feature map."""


def _per_level(values: Sequence[Any], num_levels: int, key: str) -> list[list[float]]:
    """One list of numbers for each level; a single list, nested or not, serves all levels."""
    if values and not isinstance(values[0], Sequence):
        values = [values]
    if len(values) == 1:
        values = list(values) * num_levels
    if len(values) != num_levels:
        raise ConfigError(
            f"{key} has {len(values)} lists for {num_levels} feature maps; give one, or one for each.",
            key=key,
        )
    return [[float(v) for v in level] for level in values]


class GridAnchorGenerator(nn.Module):
    """What generators share: cell anchors of each level, and the grid that they are laid out on.

    Args:
        strides: stride of each feature map.
        offset: where in its cell an anchor's centre lies, 0 is the corner, 0.5 the middle.
    """

    def __init__(self, *, strides: Sequence[int], offset: float) -> None:
        super().__init__()
        if not 0.0 <= offset < 1.0:
            raise ConfigError(
                f"MODEL.ANCHOR_GENERATOR.OFFSET is {offset}; it lies in [0, 1).",
                key="MODEL.ANCHOR_GENERATOR.OFFSET",
            )
        self.strides = list(strides)
        self.offset = offset

    def cell_anchors(self) -> list[Tensor]:
        """Per level its anchors around (0, 0), (A, B)."""
        return [getattr(self, f"cell_anchors_{level}") for level in range(len(self.strides))]

    @property
    def num_anchors(self) -> list[int]:
        """Anchors per cell, A, of each level."""
        return [len(anchors) for anchors in self.cell_anchors()]

    def centers(self, feature: Tensor, stride: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Where the anchors of a feature map (N, C, H, W) lie: x (W,) and y (H,), in image pixels."""
        height, width = feature.shape[-2:]
        shift = self.offset * stride
        ys = torch.arange(height, dtype=torch.float32, device=device) * stride + shift
        xs = torch.arange(width, dtype=torch.float32, device=device) * stride + shift
        return xs, ys


@ANCHOR_GENERATOR_REGISTRY.register()
class DefaultAnchorGenerator(GridAnchorGenerator):
    """Axis-aligned anchors (Ren et al. 2015, Faster R-CNN).

    Args:
        sizes: per level the anchors' sides (square root of the area) in image pixels.
        aspect_ratios: per level the ratios height / width.
        strides: stride of each feature map.
        offset: where in its cell an anchor's centre lies, 0 is the corner, 0.5 the middle.
    """

    box_dim = 4

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[Any],
        aspect_ratios: Sequence[Any],
        strides: Sequence[int],
        offset: float = 0.5,
    ) -> None:
        super().__init__(strides=strides, offset=offset)
        level_sizes = _per_level(sizes, len(self.strides), "MODEL.ANCHOR_GENERATOR.SIZES")
        level_ratios = _per_level(
            aspect_ratios, len(self.strides), "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"
        )
        for level, (s, r) in enumerate(zip(level_sizes, level_ratios, strict=True)):
            anchors = self.generate_cell_anchors(s, r)
            self.register_buffer(f"cell_anchors_{level}", anchors, persistent=False)

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Sequence[ShapeSpec]) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.ANCHOR_GENERATOR``."""
        generator = cfg.MODEL.ANCHOR_GENERATOR
        return {
            "sizes": generator.SIZES,
            "aspect_ratios": generator.ASPECT_RATIOS,
            "strides": [shape.known_stride for shape in input_shape],
            "offset": generator.OFFSET,
        }

    @staticmethod
    def generate_cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
        """(A, 4) anchors around (0, 0), sizes outer and ratios inner; not rounded."""
        anchors = []
        for size in sizes:
            for ratio in aspect_ratios:
                width = math.sqrt(size**2 / ratio)
                height = ratio * width
                anchors.append([-width / 2, -height / 2, width / 2, height / 2])
        return torch.tensor(anchors, dtype=torch.float32)

    def forward(self, features: Sequence[Tensor]) -> list[Boxes]:
        """Per feature map (N, C, H, W) its H * W * A anchors, row by row, A at each cell."""
        levels = []
        for feature, stride, base in zip(features, self.strides, self.cell_anchors(), strict=True):
            xs, ys = self.centers(feature, stride, base.device)
            grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
            shifts = torch.stack((grid_x, grid_y, grid_x, grid_y), dim=-1).reshape(-1, 1, 4)
            levels.append(Boxes((shifts + base).reshape(-1, 4)))
        return levels


def build_anchor_generator(cfg: Config, input_shape: Sequence[ShapeSpec]) -> nn.Module:
    """The generator ``cfg.MODEL.ANCHOR_GENERATOR.NAME``."""
    generator: nn.Module = ANCHOR_GENERATOR_REGISTRY.get(cfg.MODEL.ANCHOR_GENERATOR.NAME)(
        cfg, input_shape
    )
    return generator
