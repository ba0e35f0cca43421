"""Non-maximum suppression of many groups of boxes at once, as a GPU likes it.

Greedy suppression has one answer: a box stays when no better one *that stays* overlaps it too much.
So a guess is corrected, for all boxes of all groups together, until nothing changes. After t
corrections the t best boxes of a group are final; in practice it takes a dozen. There is no loop over
boxes, groups or images, and groups never share coordinates: the answer to one is independent of the
others, and bit-equal to that of ``torchvision.ops.nms`` on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torchvision.ops
from torch import Tensor

from models.transfer import to_device

CORRECTIONS_PER_CHECK = 12
"""Corrections between two looks at whether anything changed: a look waits for the device."""
LARGEST_GROUP = 2048
"""Comparing each box with each other is quadratic: larger groups are suppressed one by one."""
PAIRS_AT_ONCE = 2**26
"""Bounds the memory of the comparison: about 0.8 GB for so many pairs."""


def suppress(boxes: Tensor, valid: Tensor, iou_threshold: float | Tensor) -> Tensor:
    """Which boxes of each of G groups stay.

    Args:
        boxes: (G, n, 4) float32, XYXY, best first within a group.
        valid: (G, n) bool; the others are padding: they neither stay nor suppress.
        iou_threshold: boxes that overlap a better one more (IoU) go; one number, or of each group its
            own, (G,) float32, rounded down.

    Returns:
        (G, n) bool.
    """
    groups, size = valid.shape
    if not groups or not size:
        return valid
    if size > LARGEST_GROUP:
        limits: list[float] = (
            torch.as_tensor(iou_threshold, dtype=torch.float64).expand(groups).tolist()
        )
        return torch.stack(
            [_suppress_one(*group) for group in zip(boxes, valid, limits, strict=True)]
        )
    step = max(1, PAIRS_AT_ONCE // size**2)
    return torch.cat(
        [
            _settle(_overlaps(boxes[chunk], _limit(iou_threshold, chunk)), valid[chunk])
            for chunk in (slice(i, i + step) for i in range(0, groups, step))
        ]
    )


def _limit(iou_threshold: float | Tensor, chunk: slice) -> float | Tensor:
    """What the overlaps of a chunk of groups are compared with."""
    if isinstance(iou_threshold, Tensor):
        return iou_threshold[chunk, None, None]
    return _largest_float32_up_to(iou_threshold)


def best_per_image(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    images: Tensor,
    *,
    num_images: int,
    num_classes: int,
    iou_threshold: float | Sequence[float],
    most: int | Sequence[int],
) -> list[Tensor]:
    """Suppress within each class of each image, and choose the best of what stays.

    Args:
        boxes: (C, 4) float32, candidates of all images.
        scores: (C,), without NaN.
        classes, images: (C,) int64, which class of which image each belongs to.
        num_images, num_classes: how many there are.
        iou_threshold: boxes of one class that overlap a better one more (IoU) go; one number, or of
            each image its own.
        most: how many an image keeps; negative keeps all. Likewise.

    Returns:
        Per image the indices of its candidates, best first; of equal scores the earlier one first.
    """
    by_score = scores.argsort(descending=True, stable=True)
    if not len(boxes):
        return [by_score] * num_images
    group = images * num_classes + classes
    order = by_score[group[by_score].argsort(stable=True)]  # by group, best first within it
    group = group[order]
    sizes = _counts(group, num_images * num_classes)
    place = torch.arange(len(order), device=boxes.device) - (sizes.cumsum(0) - sizes)[group]
    row = (sizes > 0).cumsum(0)[group] - 1  # the groups that have a candidate, counted through
    rows, longest = torch.stack((row[-1] + 1, sizes.max())).tolist()
    padded = boxes.new_zeros((rows, longest, 4))
    padded[row, place] = boxes[order]
    valid = torch.zeros((rows, longest), dtype=torch.bool, device=boxes.device)
    valid[row, place] = True
    limit: float | Tensor
    if isinstance(iou_threshold, Sequence):
        rounded = [_largest_float32_up_to(own) for own in iou_threshold]
        of_images = torch.tensor(rounded, dtype=torch.float32)
        limit = padded.new_empty(rows)
        limit[row] = to_device(of_images, boxes.device)[images[order]]
    else:
        limit = iou_threshold
    gone = torch.ones_like(order)
    gone[order] = (~suppress(padded, valid, limit)[row, place]).long()

    key = images * 2 + gone
    chosen = by_score[key[by_score].argsort(stable=True)]  # by image, what stays first, best first
    indices, start = [], 0
    caps = most if isinstance(most, Sequence) else [most] * num_images
    counts = _counts(key, num_images * 2).view(-1, 2).tolist()
    for (stay, go), cap in zip(counts, caps, strict=True):
        best = stay if cap < 0 else min(stay, cap)
        indices.append(chosen[start : start + best])
        start += stay + go
    return indices


def _counts(keys: Tensor, length: int) -> Tensor:
    """How often each of 0 .. length - 1 occurs; ``bincount`` waits for the device, this does not."""
    return keys.new_zeros(length).scatter_add_(0, keys, torch.ones_like(keys))


def _settle(overlaps: Tensor, valid: Tensor) -> Tensor:
    """Correct the guess that all valid boxes stay until it holds: (G, n) bool."""
    kept = valid
    while True:
        for _ in range(CORRECTIONS_PER_CHECK):
            before = kept
            # How many boxes that stay, and are better, overlap each box.
            suppressors = torch.bmm(kept[:, None].to(overlaps.dtype), overlaps)[:, 0]
            kept = valid & (suppressors == 0)
        if torch.equal(kept, before):
            return kept


def _overlaps(boxes: Tensor, limit: float | Tensor) -> Tensor:
    """(G, n, n), 1 where the box of the row is better than that of the column and overlaps it.

    ``limit`` is a float32 number, or (G, 1, 1).
    In half precision on a GPU, where the product with it is fastest: counts up to 2048 are exact.
    """
    x1, y1, x2, y2 = boxes.float().unbind(dim=2)
    areas = (x2 - x1) * (y2 - y1)
    # In the order of operations of torchvision's kernel, so that rounding is the same.
    width = _of_pairs(torch.minimum, x2).sub_(_of_pairs(torch.maximum, x1)).clamp_(min=0)
    height = _of_pairs(torch.minimum, y2).sub_(_of_pairs(torch.maximum, y1)).clamp_(min=0)
    intersection = width.mul_(height)
    union = _of_pairs(torch.add, areas).sub_(intersection)
    above = intersection.div_(union) > limit
    return above.triu_(diagonal=1).to(torch.float16 if boxes.is_cuda else torch.float32)


def _of_pairs(function: Callable[..., Tensor], values: Tensor) -> Tensor:
    """``function`` of all pairs of each group: (G, n) -> (G, n, n)."""
    return function(values[:, :, None], values[:, None])


def _largest_float32_up_to(number: float) -> float:
    """A float32 is above this exactly when it is above ``number``, as the kernel compares in double."""
    rounded = np.float32(number)
    if float(rounded) > number:
        rounded = np.nextafter(rounded, np.float32(-np.inf))
    return float(rounded)


def _suppress_one(boxes: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """(n,) bool for one large group, by torchvision's kernel."""
    index = valid.nonzero().flatten()
    falling = torch.arange(len(index), 0, -1, dtype=torch.float32, device=boxes.device)
    keep = torchvision.ops.nms(boxes[index].float(), falling, iou_threshold)
    kept = torch.zeros_like(valid)
    kept[index[keep]] = True
    return kept
