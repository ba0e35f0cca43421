"""From a keypoint head's heatmaps to sub-pixel positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
