"""New, untrained last layers for another number of classes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from models.architectures.dense_detector import DenseDetector
from models.classes.tensors import PRIOR, ClassTensor, Part, class_tensors, of_part
from models.errors import ModelError

M = TypeVar("M", bound=nn.Module)


def replace_predictor(
    model: M, num_classes: int, *, part: Part | None = None, prior_prob: float = PRIOR
) -> M:
    """Give ``model`` untrained last layers for ``num_classes`` classes; everything else stays.

    Layers that serve all classes at once (class-agnostic boxes and masks, box deltas of RetinaNet and
    FCOS, keypoints) are kept with their weights. The others begin as Detectron2 begins them: scores
    N(0, 0.01²), boxes and masks N(0, 0.001²), biases 0, the scores of RetinaNet and FCOS at
    ``prior_prob``. An R-CNN's scores have one more row than classes: the background's, the last one.

    Make optimisers afterwards: the old layers' parameters are gone. A federated loss forgets how common
    the old classes were (``set_class_image_counts``).

    Args:
        model: of any architecture of the library with classes; changed in place. Devices and dtypes
            stay. Its attributes ``num_classes`` change too, a config that it was built from cannot.
        num_classes: new classes, without the background.
        part: "things" or "stuff" of a panoptic model; None is its things, and of a semantic model its
            stuff. The first class of a panoptic model's stuff stands for all things.
        prior_prob: see above.

    Returns:
        The same model.

    Raises:
        ModelError: the model has no classes to change, or the number is no number of classes.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ModelError(
            f"A model has 1 class or more, not {num_classes!r}; the background is not counted."
        )
    tensors = of_part(class_tensors(model), part)
    for tensor in tensors:
        _replace_(model, tensor, num_classes, prior_prob)
    for module in _counting(model, tensors[0].part):
        if getattr(module, "num_classes", None) == tensors[0].num_classes:
            module.num_classes = num_classes  # type: ignore[assignment]  # it has this number
        if getattr(module, "fed_loss_cls_weights", None) is not None:
            module.fed_loss_cls_weights = None  # type: ignore[assignment]  # until the data is known
    return model


def _replace_(model: nn.Module, tensor: ClassTensor, num_classes: int, prior_prob: float) -> None:
    owner_name, _, leaf = tensor.name.rpartition(".")
    owner: Any = model.get_submodule(owner_name)
    old: Tensor = getattr(owner, leaf)
    new = torch.empty(
        (tensor.rows(num_classes), *old.shape[1:]), dtype=old.dtype, device=old.device
    )
    _initialise_(new, tensor, prior_prob)
    setattr(owner, leaf, nn.Parameter(new))
    for attribute in ("out_features", "out_channels"):
        if hasattr(owner, attribute):
            setattr(owner, attribute, len(new))


@torch.no_grad()
def _initialise_(new: Tensor, tensor: ClassTensor, prior_prob: float) -> None:
    if tensor.is_bias:
        new.fill_(logit(prior_prob) if tensor.role == "dense" else 0.0)
    elif tensor.role == "semantic":
        nn.init.kaiming_normal_(new, mode="fan_out", nonlinearity="relu")
    else:
        nn.init.normal_(new, std=0.001 if tensor.role in ("boxes", "masks") else 0.01)


def logit(probability: float) -> float:
    """The number whose sigmoid is ``probability``."""
    return math.log(probability) - math.log1p(-probability)


def _counting(model: nn.Module, part: Part) -> Iterator[nn.Module]:
    """Modules that may have the number of classes of ``part`` as an attribute."""
    holder: Any = model
    if part == "stuff":
        yield from holder.sem_seg_head.modules()
    elif isinstance(model, DenseDetector):
        yield model
        yield from model.head.modules()
    else:
        yield from holder.roi_heads.modules()
