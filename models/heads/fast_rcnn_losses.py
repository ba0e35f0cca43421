"""How wrong the classes of regions are, and what is worth logging about them.

Shapes as in :mod:`models.heads.fast_rcnn`: R regions, K foreground classes, class K the background.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import at_least_float32


def softmax_loss(logits: Tensor, gt_classes: Tensor) -> Tensor:
    """Cross entropy of (R, K + 1) logits, the mean over the regions; 0 without any."""
    logits = at_least_float32(logits)
    if len(gt_classes) == 0:
        return logits.sum()  # of nothing; connected to what predicted it
    return F.cross_entropy(logits, gt_classes)


def sigmoid_loss(logits: Tensor, gt_classes: Tensor, only_classes: Tensor | None = None) -> Tensor:
    """Binary cross entropy of each class of its own, the sum over classes divided by R.

    Args:
        logits: (R, K + 1); the background's column is not looked at: it is what is no class.
        gt_classes: (R,) int64 in 0 .. K.
        only_classes: (C,) int64 in 0 .. K, the classes that count; None is all.
    """
    num_classes = logits.shape[1] - 1
    logits = at_least_float32(logits)[:, :num_classes]
    targets = torch.zeros_like(logits)
    foreground = (gt_classes < num_classes).nonzero().flatten()
    targets[foreground, gt_classes[foreground]] = 1
    if only_classes is not None:
        columns = only_classes[only_classes < num_classes]
        logits, targets = logits[:, columns], targets[:, columns]
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return loss / max(len(gt_classes), 1)


def federated_classes(gt_classes: Tensor, num_samples: int, weights: Tensor) -> Tensor:
    """The classes that a step of a federated data set learns (Gupta et al. 2019, LVIS; Zhou et al. 2021).

    Such a data set does not say of every class whether it is in a picture. So only the classes that
    are there count, and others that are drawn at random to be told from them.

    Args:
        gt_classes: (R,) int64 of the batch's regions, in 0 .. K. The background, if it occurs, takes
            one of the places.
        num_samples: how many classes in total, unless more occur.
        weights: (K,) how likely each class is drawn; 0 is never.

    Returns:
        (C,) int64, each class once: those that occur, then those that were drawn.
    """
    occurring: Tensor = torch.unique(gt_classes)
    weights = weights.to(torch.float32).clone()
    weights[occurring[occurring < len(weights)]] = 0
    missing = min(num_samples - len(occurring), int((weights > 0).sum()))
    if missing <= 0:
        return occurring
    return torch.cat((occurring, torch.multinomial(weights, missing)))


@torch.no_grad()
def classification_figures(
    logits: Tensor, gt_classes: Tensor, foreground: Tensor
) -> dict[str, float | Tensor]:
    """How many of R regions, and of those with an object, get the right class, in 0 .. 1.

    Args:
        logits: (R, K + 1).
        gt_classes: (R,) int64.
        foreground: indices of the regions with an object.

    Returns:
        ``fast_rcnn/cls_accuracy`` and, if there is a foreground, ``fast_rcnn/fg_cls_accuracy`` and
        ``fast_rcnn/false_negative``, the part of it that is taken for background.
    """
    if len(gt_classes) == 0:
        return {}
    predicted = logits.argmax(dim=1)
    correct = predicted == gt_classes
    figures: dict[str, float | Tensor] = {"fast_rcnn/cls_accuracy": correct.float().mean()}
    if len(foreground):
        missed = predicted[foreground] == logits.shape[1] - 1
        figures["fast_rcnn/fg_cls_accuracy"] = correct[foreground].float().mean()
        figures["fast_rcnn/false_negative"] = missed.float().mean()
    return figures
