"""What one module must know of the features that another hands to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShapeSpec:
    """Channels, size and stride (relative to the input image) of a feature map; None is unknown."""

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None

    @property
    def known_channels(self) -> int:
        """``channels``; ValueError when they are unknown."""
        if self.channels is None:
            raise ValueError("This ShapeSpec does not say how many channels the feature has.")
        return self.channels

    @property
    def known_stride(self) -> int:
        """``stride``; ValueError when it is unknown."""
        if self.stride is None:
            raise ValueError("This ShapeSpec does not say which stride the feature has.")
        return self.stride
