"""What training minimises: losses of boxes by name, and the focal loss of dense detectors.

All are sums of float32 (or wider) numbers, whatever precision the network computes in; who calls
divides. A sum over nothing is a zero that is connected to the predictions: its gradient is zero too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision.ops
from torch import Tensor

from models.box_regression import BoxTransform
from models.errors import ConfigError

_MIN_BETA = 1e-5
"""A smaller beta of smooth L1 is 0: a parabola so narrow only divides by almost nothing."""

_OVERLAP_LOSSES: dict[str, Callable[..., Tensor]] = {
    "giou": torchvision.ops.generalized_box_iou_loss,
    "diou": torchvision.ops.distance_box_iou_loss,
    "ciou": torchvision.ops.complete_box_iou_loss,
}

BOX_LOSSES = ("smooth_l1", *_OVERLAP_LOSSES)
"""What a ``BBOX_REG_LOSS_TYPE`` of the config can be."""


def smooth_l1_loss(predictions: Tensor, targets: Tensor, beta: float) -> Tensor:
    """The sum of smooth L1 (Girshick 2015, Fast R-CNN, eq. 3) over tensors of one shape.

    Below ``beta`` the loss of a difference d is d**2 / (2 * beta), above it |d| - beta / 2; with a
    beta of 0 it is |d|.
    """
    predictions = at_least_float32(predictions)
    if beta < _MIN_BETA:
        return (predictions - targets).abs().sum()
    return F.smooth_l1_loss(predictions, targets.to(predictions.dtype), reduction="sum", beta=beta)


def box_regression_loss(
    loss_type: str,
    box2box_transform: BoxTransform,
    pred_deltas: Tensor,
    sources: Tensor,
    targets: Tensor,
    *,
    smooth_l1_beta: float = 0.0,
) -> Tensor:
    """The sum over P boxes of what their regression costs; B numbers per box, 4 or, rotated, 5.

    Args:
        loss_type: "smooth_l1" compares deltas; "giou" (Rezatofighi et al. 2019), "diou" and "ciou"
            (Zheng et al. 2020) compare boxes, upright ones alone.
        box2box_transform: between boxes and deltas.
        pred_deltas: (P, B) what the network predicts.
        sources: (P, B) the boxes that it moves: anchors or proposals.
        targets: (P, B) where they should have gone.
        smooth_l1_beta: see :func:`smooth_l1_loss`.

    Raises:
        ConfigError: there is no such loss, or not for such boxes.
    """
    if loss_type == "smooth_l1":
        target_deltas = box2box_transform.get_deltas(sources, targets)
        return smooth_l1_loss(pred_deltas, target_deltas, smooth_l1_beta)
    if loss_type not in _OVERLAP_LOSSES:
        raise ConfigError(
            f"There is no box loss {loss_type!r}; BBOX_REG_LOSS_TYPE is one of "
            f"{', '.join(BOX_LOSSES)}.",
            key="BBOX_REG_LOSS_TYPE",
        )
    if sources.shape[1] != 4:
        raise ConfigError(
            f"The box loss {loss_type!r} is of upright boxes; rotated ones need smooth_l1 as "
            "BBOX_REG_LOSS_TYPE.",
            key="BBOX_REG_LOSS_TYPE",
        )
    predictions = box2box_transform.apply_deltas(pred_deltas, sources)
    return _OVERLAP_LOSSES[loss_type](predictions, targets, reduction="sum")


def sigmoid_focal_loss(
    logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """The sum of the focal loss (Lin et al. 2017, RetinaNet, eq. 5).

    Args:
        logits: of any shape.
        targets: of the same shape, 1 for what is there and 0 for what is not.
        alpha: weight of what is there; the rest weighs 1 - alpha. Negative weighs both alike.
        gamma: how much less a sure answer counts; 0 is plain cross entropy.
    """
    logits = at_least_float32(logits)
    loss: Tensor = torchvision.ops.sigmoid_focal_loss(
        logits, targets.to(logits.dtype), alpha=alpha, gamma=gamma, reduction="sum"
    )
    return loss


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32 if it is in half precision: sums of many losses need the digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def require_finite(who: str, *predictions: Tensor) -> None:
    """Stop a training whose numbers have run away, before they reach the weights.

    Raises:
        FloatingPointError: a prediction of ``who`` is NaN or infinite.
    """
    # A sum is finite if and (but for overflow, which is no better) only if its terms are.
    if bool(
        torch.stack([x.detach().sum(dtype=torch.float64) for x in predictions]).isfinite().all()
    ):
        return
    raise FloatingPointError(
        f"{who} predicts numbers that are NaN or infinite: the training has diverged. Lower "
        "SOLVER.BASE_LR (it belongs to SOLVER.IMS_PER_BATCH), lengthen SOLVER.WARMUP_ITERS, or "
        "set SOLVER.CLIP_GRADIENTS.ENABLED to true."
    )
