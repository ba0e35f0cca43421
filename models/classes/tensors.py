"""Which tensors of a model have rows of classes, and in which order the rows lie.

| tensor | rows |
|---|---|
| ``roi_heads.box_predictor.cls_score``, of each stage of a cascade | K, then the background |
| ``roi_heads.box_predictor.bbox_pred`` | K * 4, rotated K * 5; none of classes if one box serves all |
| ``roi_heads.mask_head.predictor`` | K; none of classes if one mask serves all |
| ``head.cls_score`` of RetinaNet and FCOS | A * K, anchors outside |
| ``sem_seg_head.predictor`` | K of the stuff |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from models.architectures import MMDetDetector, ProposalNetwork
from models.architectures.dense_detector import DenseDetector
from models.architectures.fcos import FCOS
from models.architectures.torchvision_adapter import TorchvisionDetector
from models.errors import ModelError

Part = Literal["things", "stuff"]
"""Things are counted one by one, as instances; stuff is what a semantic head paints."""

Role = Literal["softmax", "sigmoid", "dense", "boxes", "masks", "semantic"]
"""What the rows are: scores by softmax or by sigmoid of an R-CNN, scores of a dense detector, box
deltas, masks, or a semantic head's scores."""

PRIOR = 0.01
"""The score that an untrained class begins with, as in the Focal Loss paper."""


@dataclass(frozen=True)
class ClassTensor:
    """A tensor whose rows are (blocks, K, rows_per_class), flattened, and then perhaps the background's.

    Attributes:
        name: in the model's state dict.
        part: whose classes these are.
        role: what the rows are.
        num_classes: K, as the model says.
        blocks: how often all classes are repeated: anchors of a cell.
        rows_per_class: within a block; numbers of a box.
        background: whether one more row comes last.
        score_threshold: of the model's answers, where the rows are scores.
        prior: the score that a new class may begin with: :data:`PRIOR`, or what keeps it out of the
            answers.
    """

    name: str
    part: Part
    role: Role
    num_classes: int
    blocks: int = 1
    rows_per_class: int = 1
    background: bool = False
    score_threshold: float = 0.0
    prior: float = PRIOR

    @property
    def is_bias(self) -> bool:
        """Whether it is the bias of a layer."""
        return self.name.endswith(".bias")

    def rows(self, num_classes: int) -> int:
        """How many rows so many classes need."""
        return self.blocks * num_classes * self.rows_per_class + self.background


def class_tensors(model: nn.Module, *, masks_are_agnostic: bool = False) -> tuple[ClassTensor, ...]:
    """The tensors of ``model`` that have rows of classes; their shapes are not looked at.

    Args:
        model: of one of the library's architectures; it may be on the meta device.
        masks_are_agnostic: with one class, a mask for each class and a mask for all look the same;
            this says that they are for all.

    Raises:
        ModelError: the model has no classes, or keeps them where nobody knows.
    """
    _refuse_others(model)
    found: list[ClassTensor] = []
    if isinstance(model, DenseDetector):
        found += _of_dense(model)
    if getattr(model, "roi_heads", None) is not None:
        found += _of_roi_heads(model, masks_are_agnostic)
    if getattr(model, "sem_seg_head", None) is not None:
        found += _of_sem_seg_head(model)
    if not found:
        raise ModelError(
            f"A {type(model).__name__} has none of the heads whose classes are known here: RoI heads, a "
            "RetinaNet or FCOS head, a semantic head."
        )
    return tuple(found)


def main_part(tensors: Sequence[ClassTensor]) -> Part:
    """What is meant where nobody says: the things, of a model without instances the stuff."""
    return "things" if any(tensor.part == "things" for tensor in tensors) else "stuff"


def of_part(tensors: Sequence[ClassTensor], part: Part | None) -> list[ClassTensor]:
    """The tensors of one part; None is :func:`main_part`.

    Raises:
        ModelError: the model has no such classes.
    """
    part = part or main_part(tensors)
    chosen = [tensor for tensor in tensors if tensor.part == part]
    if not chosen:
        raise ModelError(
            f"The model has no classes of {part!r}, only of "
            f"{' and '.join(repr(p) for p in sorted({t.part for t in tensors}))}."
        )
    return chosen


def _refuse_others(model: nn.Module) -> None:
    if isinstance(model, ProposalNetwork):
        raise ModelError(
            "A ProposalNetwork tells objects from the background and knows no classes, so none can be "
            "changed. Take a detector, such as Faster R-CNN."
        )
    if isinstance(model, TorchvisionDetector | MMDetDetector):
        whose = "torchvision" if isinstance(model, TorchvisionDetector) else "mmdetection"
        raise ModelError(
            f"{whose}'s detectors are served here as they are: their classes cannot be changed. Change "
            f"them in {whose}, or take a model of Detectron2's."
        )


def _of_dense(model: DenseDetector) -> Iterator[ClassTensor]:
    head: Any = model.head
    threshold = float(model.test_score_thresh)
    # A score of FCOS is the root of a product, of which the class is one factor.
    highest = (threshold / 2) ** 2 if isinstance(model, FCOS) else threshold / 2
    yield from _of_layer(
        model,
        "head.cls_score",
        part="things",
        role="dense",
        num_classes=model.num_classes,
        blocks=max(_rows(head, "bbox_pred") // 4, 1),
        score_threshold=threshold,
        prior=_prior(highest),
    )


def _of_roi_heads(model: nn.Module, masks_are_agnostic: bool) -> Iterator[ClassTensor]:
    heads: Any = model.roi_heads
    count = int(heads.num_classes)
    predictor = getattr(heads, "box_predictor", None)
    name = "roi_heads.box_predictor"
    stages = (
        [(f"{name}.{i}", stage) for i, stage in enumerate(predictor)]
        if isinstance(predictor, nn.ModuleList)
        else [(name, predictor)]
    )
    for prefix, stage in stages:
        yield from _of_box_predictor(model, prefix, stage, count)
    mask_head: Any = getattr(heads, "mask_head", None)
    if mask_head is None:
        return
    one_for_all = masks_are_agnostic or (count != 1 and _rows(mask_head, "predictor") == 1)
    if not one_for_all:
        yield from _of_layer(
            model, "roi_heads.mask_head.predictor", part="things", role="masks", num_classes=count
        )


def _of_box_predictor(
    model: nn.Module, prefix: str, predictor: Any, count: int
) -> Iterator[ClassTensor]:
    threshold = float(getattr(predictor, "test_score_thresh", 0.0))
    yield from _of_layer(
        model,
        f"{prefix}.cls_score",
        part="things",
        role="sigmoid" if getattr(predictor, "use_sigmoid_ce", False) else "softmax",
        num_classes=count,
        background=True,
        score_threshold=threshold,
        prior=_prior(threshold / 2),
    )
    coder = getattr(predictor, "box2box_transform", None)
    box_dim = len(coder.weights) if coder is not None else 4
    if not getattr(predictor, "cls_agnostic_bbox_reg", False):
        yield from _of_layer(
            model,
            f"{prefix}.bbox_pred",
            part="things",
            role="boxes",
            num_classes=count,
            rows_per_class=box_dim,
        )


def _of_sem_seg_head(model: nn.Module) -> Iterator[ClassTensor]:
    head: Any = model.sem_seg_head
    yield from _of_layer(
        model,
        "sem_seg_head.predictor",
        part="stuff",
        role="semantic",
        num_classes=int(head.num_classes),
    )


def _of_layer(model: nn.Module, name: str, **layout: Any) -> Iterator[ClassTensor]:
    """Weight and bias of a layer."""
    try:
        layer: Any = model.get_submodule(name)
    except AttributeError:
        layer = None
    for parameter in ("weight", "bias"):
        if not isinstance(getattr(layer, parameter, None), Tensor):
            raise ModelError(
                f"The model has no {name}.{parameter}, where the rows of its classes are looked for: its "
                "parts are not the library's own. Change its classes where it is made."
            )
        yield ClassTensor(f"{name}.{parameter}", **layout)


def _rows(owner: Any, layer: str) -> int:
    """Rows of a layer; 0 without one."""
    weight = getattr(getattr(owner, layer, None), "weight", None)
    return int(weight.shape[0]) if isinstance(weight, Tensor) else 0


def _prior(highest: float) -> float:
    # A model without a threshold answers everything anyway.
    return min(PRIOR, highest) if highest > 0 else PRIOR
