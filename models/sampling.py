"""Random choice of positives and negatives for a training step."""

from __future__ import annotations

import torch
from torch import Tensor


def subsample_labels(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Draw ``num_samples`` (or fewer, if there are not enough) of ``labels`` at random.

    Args:
        labels: (R,) with -1 for ignore, ``bg_label`` for background, anything else is a class.
        num_samples: how many to draw in total.
        positive_fraction: at most int(num_samples * positive_fraction) of them are positives; the
            rest is filled with negatives.
        bg_label: the label of the background class.

    Returns:
        Indices of the positives and of the negatives that were drawn, each 1-D int64.
    """
    positive = ((labels != -1) & (labels != bg_label)).nonzero().flatten()
    negative = (labels == bg_label).nonzero().flatten()
    num_positive = min(positive.numel(), int(num_samples * positive_fraction))
    num_negative = min(negative.numel(), num_samples - num_positive)
    chosen_positive = torch.randperm(positive.numel(), device=positive.device)[:num_positive]
    chosen_negative = torch.randperm(negative.numel(), device=negative.device)[:num_negative]
    return positive[chosen_positive], negative[chosen_negative]
