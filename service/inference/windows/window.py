"""A part of a picture, and what its pixels and proposals are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import Unprocessable


@dataclass(frozen=True)
class Window:
    """Pixels ``left <= x < right``, ``top <= y < bottom`` of a picture as a viewer shows it."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def whole(cls, height: int, width: int) -> Window:
        """All of a picture."""
        return cls(0, 0, width, height)

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def empty(self) -> bool:
        """Whether it has no pixel."""
        return self.width <= 0 or self.height <= 0

    def shared(self, other: Window) -> Window:
        """What lies in both; may be empty."""
        return Window(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )

    def crop(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Its part of (H, W, 3); a copy, so that the picture need not stay, unless it is all of it."""
        if pixels.shape[:2] == (self.height, self.width):
            return pixels
        return pixels[self.top : self.bottom, self.left : self.right].copy()

    def proposals(self, boxes: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        """What it shows of boxes (P, 4), XYXY in pixels of the picture, in its own pixels; those of
        which it shows nothing are left out."""
        if boxes is None:
            return None
        offset = np.array([self.left, self.top] * 2, dtype=np.float32)
        end = np.array([self.width, self.height] * 2, dtype=np.float32)
        moved = np.clip(boxes - offset, 0, end)
        kept = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
        return np.ascontiguousarray(moved[kept], dtype=np.float32)


def region_of(region: tuple[float, float, float, float] | None, height: int, width: int) -> Window:
    """What a request's region is in a picture of this size: clipped to it, widened to whole pixels.

    Args:
        region: XYXY; None is the whole picture.
        height, width: of the picture, as a viewer shows it.

    Raises:
        Unprocessable: ``region_outside``: nothing of the picture lies in it.
    """
    whole = Window.whole(height, width)
    if region is None:
        return whole
    x1, y1, x2, y2 = region
    window = Window(math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)).shared(whole)
    if window.empty:
        raise Unprocessable(
            "region_outside",
            f"The region {x1:g},{y1:g},{x2:g},{y2:g} holds nothing of this image, which is {width} x "
            f"{height} pixels as a viewer shows it.",
            option="region",
            width=width,
            height=height,
        )
    return window
