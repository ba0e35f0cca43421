"""How many classes a model has."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from models.architectures import MMDetDetector, ProposalNetwork
from models.architectures.torchvision_adapter import TorchvisionDetector
from models.classes.tensors import ClassTensor, Part, class_tensors, of_part
from models.errors import ModelError


def num_classes(model: nn.Module, part: Part | None = None) -> int:
    """The number of classes that ``model`` tells apart, the background not counted.

    A proposal network has one, "object".

    Args:
        model: of any architecture of the library.
        part: "things" or "stuff" of a panoptic model; None is its things, and of a semantic model its
            stuff.

    Raises:
        ModelError: the model has no such classes, its parts do not agree about them, or it is
            mmdetection's, which keeps them to itself.
    """
    if isinstance(model, MMDetDetector):
        raise ModelError(
            "mmdetection keeps the number of classes to itself; ask its own config (model.roi_head."
            "bbox_head.num_classes or model.bbox_head.num_classes)."
        )
    if isinstance(model, ProposalNetwork | TorchvisionDetector):
        if part == "stuff":
            raise ModelError(f"A {type(model).__name__} has no classes of 'stuff'.")
        return 1 if isinstance(model, ProposalNetwork) else model.num_classes
    tensors = of_part(class_tensors(model), part)
    check_rows(model, tensors)
    return tensors[0].num_classes


def check_rows(model: nn.Module, tensors: Sequence[ClassTensor]) -> None:
    """Hold the layers of ``model`` against the number of classes that it says it has.

    Raises:
        ModelError: a layer has other rows; says how many there should be.
    """
    for tensor in tensors:
        owner, _, leaf = tensor.name.rpartition(".")
        rows = len(getattr(model.get_submodule(owner), leaf))
        wanted = tensor.rows(tensor.num_classes)
        if rows == wanted:
            continue
        background = " and the background, which comes last," if tensor.background else ""
        raise ModelError(
            f"{tensor.name} has {rows} rows, but the model's {tensor.num_classes} classes{background} "
            f"need {wanted}. Let replace_predictor(model, num_classes) make the last layers: it changes "
            "all of them together.",
            tensor=tensor.name,
            rows=rows,
            expected=wanted,
        )
