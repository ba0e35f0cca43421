"""Resizes and crops of training pictures as transforms of ``torchvision.transforms.v2``.

torchvision has its own, but resizes masks with its older rule of the nearest pixel, which shifts them
by up to half a pixel against the picture, and knows neither Detectron2's sizes nor its crops. These
here mix with torchvision's in any order. All draw from PyTorch's global generator.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from models.transforms import resized_size

PADDING_LEVEL = 128
"""Grey of what is added to a picture, as Detectron2's large-scale jitter has it."""


class Resize(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """To a size that depends on the present one: antialiased pictures, masks by the nearest pixel."""

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) to resize to; may be drawn."""
        raise NotImplementedError

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """What all parts of one sample share."""
        return {"size": self.new_size(*v2.query_size(flat_inputs))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """One part of the sample, resized."""
        size = params["size"]
        if isinstance(inpt, tv_tensors.Mask):
            return tv_tensors.wrap(resize_nearest(inpt.as_subclass(Tensor), *size), like=inpt)
        return self._call_kernel(tv.resize, inpt, size=list(size), antialias=True)


class ResizeShortestEdge(Resize):
    """The shorter side becomes one of several sizes, see :func:`models.transforms.resized_size`.

    Args:
        sizes: in pixels, of the shorter side; 0 is no resize.
        max_size: at most, of the longer side.
        is_range: draw from all sizes between the two given, both included.
    """

    def __init__(self, sizes: tuple[int, ...], max_size: int, *, is_range: bool = False) -> None:
        super().__init__()
        self.sizes = sizes
        self.max_size = max_size
        self.is_range = is_range

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) to resize to."""
        if self.is_range:
            size = drawn(self.sizes[0], self.sizes[1])
        else:
            size = self.sizes[drawn(0, len(self.sizes) - 1)]
        return resized_size(height, width, size, self.max_size)


class ScaleJitter(Resize):
    """Scale to fit a size, and then by a factor drawn evenly (Ghiasi et al. 2021, Copy-Paste, §3).

    Args:
        target: (height, width) that a factor of 1 fits the picture into.
        factors: the smallest and the largest.
    """

    def __init__(self, target: tuple[int, int], factors: tuple[float, float] = (0.1, 2.0)) -> None:
        super().__init__()
        self.target = target
        self.factors = factors

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) to resize to."""
        low, high = self.factors
        factor = low + (high - low) * float(torch.rand(()))
        scale = factor * min(self.target[0] / height, self.target[1] / width)
        return max(round(height * scale), 1), max(round(width * scale), 1)


class RandomCrop(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """A window somewhere in the picture.

    Args:
        kind: how ``size`` is meant. "relative": parts of height and width; "relative_range": the
            smallest such parts, the window has any up to the whole; "absolute": height and width in
            pixels, or the picture's where that is smaller; "absolute_range": the least and the most
            pixels of either side.
        size: two numbers.
    """

    def __init__(self, kind: str, size: tuple[float, float]) -> None:
        super().__init__()
        self.kind = kind
        self.size = size

    def window_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a window in a picture of ``height`` x ``width``."""
        first, second = self.size
        if self.kind == "absolute":
            return min(int(first), height), min(int(second), width)
        if self.kind == "absolute_range":
            low, high = int(first), int(second)
            return (
                drawn(min(height, low), min(height, high)),
                drawn(min(width, low), min(width, high)),
            )
        if self.kind == "relative_range":
            first += (1 - first) * float(torch.rand(()))
            second += (1 - second) * float(torch.rand(()))
        return max(int(height * first + 0.5), 1), max(int(width * second + 0.5), 1)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """What all parts of one sample share."""
        return _window(v2.query_size(flat_inputs), self.window_size(*v2.query_size(flat_inputs)))

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The part of ``inpt`` in the window."""
        return self._call_kernel(tv.crop, inpt, **params)


class FixedSizeCrop(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """A window of one size; what the picture lacks is added at its right and at its bottom.

    Pictures are filled up with grey, masks with 0.

    Args:
        size: (height, width) in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """What all parts of one sample share."""
        height, width = v2.query_size(flat_inputs)
        inside = min(height, self.size[0]), min(width, self.size[1])
        missing = [0, 0, self.size[1] - inside[1], self.size[0] - inside[0]]
        return {"window": _window((height, width), inside), "missing": missing}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The part of ``inpt`` in the window, filled up."""
        cropped = self._call_kernel(tv.crop, inpt, **params["window"])
        if not any(params["missing"]):
            return cropped
        fill = 0 if isinstance(inpt, tv_tensors.Mask) else PADDING_LEVEL
        return self._call_kernel(tv.pad, cropped, padding=params["missing"], fill=fill)


def resize_nearest(masks: Tensor, height: int, width: int) -> Tensor:
    """(N, H, W) of any dtype -> (N, height, width): the value at each new pixel's centre.

    The same pixels as Pillow's, which Detectron2 takes.
    """
    if masks.shape[1:] == (height, width):
        return masks
    rows = _nearest(masks.shape[1], height)
    columns = _nearest(masks.shape[2], width)
    # Columns first: decoded run-length masks have their columns in one piece.
    return masks.index_select(2, columns).index_select(1, rows)


def drawn(low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, ()))


def _nearest(old: int, new: int) -> Tensor:
    centers = torch.arange(new, dtype=torch.float64) + 0.5
    return (centers * (old / new)).long().clamp_(max=old - 1)


def _window(size: tuple[int, int], window: tuple[int, int]) -> dict[str, int]:
    (height, width), (inner_height, inner_width) = size, window
    return {
        "top": drawn(0, height - inner_height),
        "left": drawn(0, width - inner_width),
        "height": inner_height,
        "width": inner_width,
    }
