"""The rows of a tensor for other classes: kept ones are copied bit for bit, new ones begin quietly.

How a new class begins, before it is trained, so that the old classes' answers stay what they are and
the new class does not answer:

- **softmax**: as a copy of the background's row, shifted. With q the score that it may have, its bias
  is the background's plus log q, and the background's own bias falls by log(1 - n q) for n new
  classes. Whatever the features are, the new classes then take their part from the background
  alone, exp(z + log q) n + exp(z + log(1 - n q)) = exp(z): the sum over all classes, and so the
  score of every old class, is the same but for rounding, and no new class scores more than q. What a
  new class is to be was background to the old model, so the copy is also near to what is to be
  learnt; a row of zeros with a very low bias would start further away. The lower q, the longer the
  new class has to climb: log(1 / q), 4.6 for 0.01. Its gradient does not suffer, since that of the
  cross entropy for an object of the class is its score minus 1.
- **sigmoid**, RetinaNet, FCOS: zeros with the bias log(q / (1 - q)), so that the score is q everywhere;
  the old classes have scores of their own. Zeros learn: the last layer's gradient is the features
  times the error.
- **boxes, masks**: the mean over the old classes: a box or mask of an average object.
- **semantic heads**: the mean over the old classes, lowered so that the partition sum grows by less
  than 1e-4 altogether. A mean never is the largest, so every pixel keeps its class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.classes.replacing import logit
from models.classes.tensors import ClassTensor

_MOST_FROM_BACKGROUND = 0.1
_SEMANTIC_SHARE = 5e-5


def rearranged(tensor: Tensor, layout: ClassTensor, sources: Sequence[int | None]) -> Tensor:
    """The rows of other classes.

    Args:
        tensor: as ``layout`` says.
        layout: of the old classes.
        sources: for each new class the old one whose rows it has; None begins as said above.

    Returns:
        A new tensor of the same dtype, on the same device.
    """
    background = tensor[len(tensor) - layout.background :]
    shape = (layout.blocks, layout.num_classes, layout.rows_per_class, *tensor.shape[1:])
    rows = tensor[: len(tensor) - layout.background].reshape(shape)
    number = sum(source is None for source in sources)
    if number:
        fresh = _fresh(rows, background, layout, number).to(tensor.dtype)
        if layout.role == "softmax" and layout.is_bias:
            rest = 1 - number * start_score(layout, number)
            background = (background.double() + math.log(rest)).to(tensor.dtype)
    chosen = [fresh if source is None else rows[:, source] for source in sources]
    return torch.cat([torch.stack(chosen, dim=1).reshape(-1, *tensor.shape[1:]), background])


def start_score(layout: ClassTensor, number: int) -> float:
    """The highest score of each of ``number`` new classes before training."""
    if layout.role == "softmax":
        return min(layout.prior, _MOST_FROM_BACKGROUND / number)
    return layout.prior


def _fresh(rows: Tensor, background: Tensor, layout: ClassTensor, number: int) -> Tensor:
    """Rows of one new class, (blocks, rows_per_class, ...) in float64."""
    mean = rows.double().mean(dim=1)
    if layout.role == "softmax":
        shift = math.log(start_score(layout, number)) if layout.is_bias else 0.0
        return background.double().expand_as(mean) + shift
    if layout.role in ("sigmoid", "dense"):
        return torch.full_like(mean, logit(layout.prior) if layout.is_bias else 0.0)
    if layout.role == "semantic" and layout.is_bias:
        return mean + math.log(_SEMANTIC_SHARE / number)
    return mean
