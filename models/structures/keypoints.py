"""Keypoints of instances: as the ground truth has them, and read from a keypoint head's heatmaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class Keypoints:
    """K keypoints of each of N instances, as one float32 tensor (N, K, 3).

    Each is x, y in continuous pixel coordinates (the middle of the first pixel is 0.5) and its
    visibility: 0 is not labelled, 1 labelled but hidden, 2 visible.
    """

    def __init__(self, keypoints: Tensor) -> None:
        tensor = torch.as_tensor(keypoints, dtype=torch.float32)
        if tensor.dim() != 3 or tensor.shape[2] != 3:
            raise ValueError(f"Keypoints need shape (N, K, 3), got {tuple(tensor.shape)}.")
        self.tensor = tensor

    @property
    def device(self) -> torch.device:
        """Where the keypoints live."""
        return self.tensor.device

    def to(self, device: torch.device | str) -> Keypoints:
        """The keypoints on ``device``."""
        return Keypoints(self.tensor.to(device))

    def to_heatmap(self, boxes: Tensor, heatmap_size: int) -> tuple[Tensor, Tensor]:
        """The cell of its box's heatmap that each keypoint lies in, the target of training.

        Args:
            boxes: (N, 4) XYXY in pixels, box i for instance i.
            heatmap_size: side S of a heatmap.

        Returns:
            (N, K) int64 cells y * S + x, 0 where there is none, and (N, K) bool, whether there is one:
            the keypoint is labelled and lies in the box, its right and lower edges included.
        """
        if tuple(boxes.shape) != (len(self), 4):
            raise ValueError(
                f"Boxes of shape {tuple(boxes.shape)} for the keypoints of {len(self)} instances."
            )
        corners = boxes.detach().to(self.tensor)[:, None]
        low, high = corners[..., :2], corners[..., 2:]
        points = self.tensor[..., :2]
        position = (points - low) * (heatmap_size / (high - low))
        # As float numbers until they are known to be in range: a box without sides gives NaN.
        cell = torch.where(points == high, position.new_tensor(heatmap_size - 1), position.floor())
        inside = ((cell >= 0) & (cell < heatmap_size)).all(dim=2)
        valid = inside & (self.tensor[..., 2] > 0)
        column, row = cell.where(valid[..., None], cell.new_zeros(())).long().unbind(dim=2)
        return row * heatmap_size + column, valid

    @staticmethod
    def cat(keypoints_list: Sequence[Keypoints]) -> Keypoints:
        """One object with the keypoints of all."""
        return Keypoints(torch.cat([keypoints.tensor for keypoints in keypoints_list], dim=0))

    def __getitem__(self, item: int | slice | Tensor) -> Keypoints:
        if isinstance(item, int):
            return Keypoints(self.tensor[item].unsqueeze(0))
        return Keypoints(self.tensor[item])

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.tensor

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"Keypoints({len(self)} of {self.tensor.shape[1]})"


def heatmaps_to_keypoints(maps: Tensor, rois: Tensor) -> Tensor:
    """Where each keypoint of each box lies (He et al. 2017, Mask R-CNN, §5).

    Each heatmap is resized to its box, in whole pixels, by bicubic interpolation; the keypoint is the
    centre of the best pixel there. So no heatmap's resolution limits the position.

    Args:
        maps: (R, K, S, S) logits over each box.
        rois: (R, 4) boxes, XYXY in pixels.

    Returns:
        (R, K, 3): x, y in the pixels of ``rois``, and a score: the probability of the best pixel,
        relative to the sum over the heatmap at its own resolution.
    """
    keypoints = maps.new_zeros((*maps.shape[:2], 3))
    sides = (rois[:, 2:] - rois[:, :2]).clamp(min=1)
    whole_sides = sides.ceil()
    corrections = sides / whole_sides
    sizes = whole_sides.long().tolist()
    for i, (width, height) in enumerate(sizes):
        resized = F.interpolate(
            maps[i : i + 1], size=(height, width), mode="bicubic", align_corners=False
        )[0].flatten(1)
        best, position = resized.max(dim=1)
        total = (maps[i].flatten(1) - best[:, None]).exp().sum(dim=1)
        x = position % width
        y = torch.div(position - x, width, rounding_mode="floor")
        keypoints[i, :, 0] = (x.float() + 0.5) * corrections[i, 0] + rois[i, 0]
        keypoints[i, :, 1] = (y.float() + 0.5) * corrections[i, 1] + rois[i, 1]
        keypoints[i, :, 2] = 1.0 / total
    return keypoints
