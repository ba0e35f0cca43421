"""Which anchors of an image a training step looks at, and what they should have become."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from models.matcher import Matcher, overlaps
from models.sampling import subsample_labels
from models.structures import Boxes, Instances, RotatedBoxes


@dataclass(frozen=True)
class AnchorSample:
    """Anchors of one image, as indices into those of all levels; B numbers per box.

    Attributes:
        positive: (P,) int64, anchors that cover an object.
        negative: (Q,) int64, anchors that cover none.
        gt_boxes: (P, B), for each positive anchor the box of its object.
    """

    positive: Tensor
    negative: Tensor
    gt_boxes: Tensor


def sample_anchors(
    anchors: Boxes | RotatedBoxes,
    truth: Instances,
    *,
    matcher: Matcher,
    batch_size: int,
    positive_fraction: float,
    boundary_thresh: float = -1.0,
) -> AnchorSample:
    """Match the anchors of one image with its objects, and draw some (Ren et al. 2015, §3.1.3).

    Args:
        anchors: of all levels.
        truth: ``gt_boxes`` of the image; there may be none, then all anchors are negative.
        matcher: labels anchors 1, 0 or -1 (ignored).
        batch_size, positive_fraction: see :func:`subsample_labels`.
        boundary_thresh: anchors that leave the image by more pixels are ignored; negative is off.
    """
    matches, labels = matcher(overlaps(truth.gt_boxes, anchors))
    if boundary_thresh >= 0:
        labels[~_inside(anchors, truth.image_size, boundary_thresh)] = -1
    positive, negative = subsample_labels(labels, batch_size, positive_fraction, bg_label=0)
    return AnchorSample(positive, negative, truth.gt_boxes.tensor[matches[positive]])


def _inside(anchors: Boxes | RotatedBoxes, image_size: tuple[int, int], margin: float) -> Tensor:
    """(R,) bool: left and top at most, right and bottom less than ``margin`` pixels outside."""
    if isinstance(anchors, RotatedBoxes):
        raise ValueError("Rotated anchors that cross the border of the image cannot be left out.")
    height, width = image_size
    x1, y1, x2, y2 = anchors.tensor.unbind(1)
    return (x1 >= -margin) & (y1 >= -margin) & (x2 < width + margin) & (y2 < height + margin)
