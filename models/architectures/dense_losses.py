"""Losses of predictions at every cell of a pyramid: classes of all anchors, boxes of positive ones.

Shapes: N images, R anchors of all levels together, K classes. Labels are (N, R) int64: a class, K for
the background, -1 to ignore.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.box_regression import BoxTransform
from models.losses import box_regression_loss, require_finite, sigmoid_focal_loss


def dense_class_loss(
    pred_logits: Sequence[Tensor], labels: Tensor, *, alpha: float, gamma: float
) -> Tensor:
    """The sum of the focal loss over all anchors that are not ignored, and classes.

    Args:
        pred_logits: per level (N, Hi * Wi * A, K).
        labels: (N, R).
        alpha, gamma: see :func:`models.losses.sigmoid_focal_loss`.

    Raises:
        FloatingPointError: a logit is not finite.
    """
    logits = torch.cat(list(pred_logits), dim=1)
    require_finite("The classifier of the dense head", logits)
    kept = labels >= 0
    # Only then a copy: these are the largest tensors of a step.
    if not bool(kept.all()):
        logits, labels = logits[kept], labels[kept]
    num_classes = logits.shape[-1]
    targets = torch.zeros_like(logits)
    positive = labels != num_classes
    targets[positive] = F.one_hot(labels[positive], num_classes).to(targets.dtype)
    return sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma)


def dense_box_loss(
    loss_type: str,
    box2box_transform: BoxTransform,
    anchors: Tensor,
    pred_deltas: Sequence[Tensor],
    positive: tuple[Tensor, Tensor],
    gt_boxes: Tensor,
    *,
    smooth_l1_beta: float = 0.0,
) -> Tensor:
    """The sum over positive anchors of what their boxes cost.

    Args:
        loss_type, box2box_transform, smooth_l1_beta: see :func:`models.losses.box_regression_loss`.
        anchors: (R, 4).
        pred_deltas: per level (N, Hi * Wi * A, 4).
        positive: (P,) each, image and anchor of those that are, see :func:`positive_anchors`.
        gt_boxes: (N, R, 4) matched boxes.

    Raises:
        FloatingPointError: a delta is not finite.
    """
    deltas = torch.cat(list(pred_deltas), dim=1)
    require_finite("The box regressor of the dense head", deltas)
    return box_regression_loss(
        loss_type,
        box2box_transform,
        deltas[positive],
        anchors[positive[1]],
        gt_boxes[positive],
        smooth_l1_beta=smooth_l1_beta,
    )


def positive_anchors(labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Image and anchor, (P,) int64 each, of those that are matched with an object."""
    image, anchor = ((labels >= 0) & (labels != num_classes)).nonzero().unbind(1)
    return image, anchor
