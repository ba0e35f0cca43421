"""The interface of every backbone."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers import ShapeSpec


class Backbone(nn.Module):
    """Maps an image batch (N, C, H, W) to a dict of feature maps, by name (``res2``, ``p3``, ...)."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Subclasses compute the features."""
        raise NotImplementedError

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature, by name."""
        raise NotImplementedError

    @property
    def size_divisibility(self) -> int:
        """Height and width of the input must be multiples of this; 0 when any size will do."""
        return 0
