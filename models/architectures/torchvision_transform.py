"""The two ends of torchvision's detectors: what goes in, and masks that come out small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform


class KeepSoftMasks(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """torchvision's transform, but masks stay (R, 1, M, M) over their boxes."""

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Boxes and keypoints to pixels of the given images."""
        soft = [detections.pop("masks", None) for detections in result]
        scaled: list[dict[str, Tensor]] = super().postprocess(
            result, image_shapes, original_image_sizes
        )
        for detections, masks in zip(scaled, soft, strict=True):
            if masks is not None:
                detections["masks"] = masks
        return scaled


@dataclass(frozen=True)
class TorchvisionPreprocessing:
    """torchvision resizes inside the model, so a picture only changes its layout.

    Attributes:
        min_size, max_size: the shorter side after the resize, and the bound of the longer one.
        size_divisibility: batches are padded to multiples of this.
        input_format: RGB.
    """

    min_size: int
    max_size: int
    size_divisibility: int = 32
    input_format: Literal["RGB"] = "RGB"

    def __call__(
        self, image: NDArray[np.uint8], channel_order: Literal["RGB", "BGR"] = "RGB"
    ) -> Tensor:
        """(H, W, 3) uint8 -> (3, H, W) uint8 RGB."""
        ordered = image[:, :, ::-1] if channel_order == "BGR" else image
        return torch.from_numpy(np.ascontiguousarray(ordered.transpose(2, 0, 1)))

    def padded_size(self, image: Tensor) -> tuple[int, int]:
        """(height, width) of the batch that an image runs in when it is alone, after the resize."""
        transform = GeneralizedRCNNTransform(self.min_size, self.max_size, [0.0], [1.0]).eval()
        # A tensor without content, so that torchvision itself says how it would round.
        resized, _ = transform.resize(torch.empty((1, *image.shape[-2:]), device="meta"))
        height, width = (-(-s // self.size_divisibility) for s in resized.shape[-2:])
        return height * self.size_divisibility, width * self.size_divisibility
