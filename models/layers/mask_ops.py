"""From a mask head's small soft masks to pixels of the image: one crop per instance."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def paste_mask_crop(
    mask: Tensor, box: Tensor, image_size: tuple[int, int], threshold: float = 0.5
) -> tuple[int, int, Tensor]:
    """Paste one soft mask into its box and return the part of the image that it can touch.

    Args:
        mask: (M, M) float, foreground probabilities over the box.
        box: (4,) XYXY in image pixels.
        image_size: (height, width) of the image.
        threshold: a pixel is foreground from this probability on (>=).

    Returns:
        left, top: the crop's corner in the image, in pixels.
        bits: (h, w) bool crop. It is one pixel wider than the box on each side, clipped to the image
        (and empty when the box lies outside of it); the sampled mask fades to zero outside of its box,
        so nothing lies beyond.
    """
    height, width = image_size
    x1, y1, x2, y2 = box.tolist()
    left, top = (min(max(math.floor(v) - 1, 0), end) for v, end in ((x1, width), (y1, height)))
    right = max(min(math.ceil(x2) + 1, width), left)
    bottom = max(min(math.ceil(y2) + 1, height), top)
    # Pixel centres (i + 0.5) in the box's own coordinates, -1 to 1, computed in float32 from the
    # float32 box as Detectron2 does: in double some pixels on the threshold would fall otherwise.
    corners = box.float()
    grid_y = torch.arange(top, bottom, device=mask.device, dtype=torch.float32) + 0.5
    grid_x = torch.arange(left, right, device=mask.device, dtype=torch.float32) + 0.5
    grid_y = (grid_y - corners[1]) / (corners[3] - corners[1]) * 2 - 1
    grid_x = (grid_x - corners[0]) / (corners[2] - corners[0]) * 2 - 1
    rows, columns = torch.meshgrid(grid_y, grid_x, indexing="ij")
    grid = torch.stack((columns, rows), dim=-1)
    sampled = F.grid_sample(mask[None, None].float(), grid[None], align_corners=False)
    return left, top, sampled[0, 0] >= threshold


def paste_masks_in_image(
    masks: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Paste R soft masks (R, M, M) into boxes (R, 4): full frames, (R, H, W) bool.

    R full frames take R x H x W bytes; where only the encoding is wanted, use
    :func:`paste_mask_crop` with :func:`models.structures.encode_rle_crop`.
    """
    frames = torch.zeros((len(masks), *image_size), dtype=torch.bool, device=masks.device)
    for frame, mask, box in zip(frames, masks, boxes, strict=True):
        left, top, bits = paste_mask_crop(mask, box, image_size, threshold)
        frame[top : top + bits.shape[0], left : left + bits.shape[1]] = bits
    return frames
