"""Which instances of two answers to one picture are the same, and how far they differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.evaluation.run_lengths import encode_masks
from models.structures import (
    Boxes,
    Instances,
    RotatedBoxes,
    pairwise_iou,
    pairwise_iou_rotated,
)

_GONE = -1.0
"""In a table of overlaps: may not be matched any more."""


def box_overlaps(first: Boxes | RotatedBoxes, second: Boxes | RotatedBoxes) -> Tensor:
    """IoU of all pairs, (R1, R2); 0 of upright boxes with rotated ones."""
    if isinstance(first, RotatedBoxes) and isinstance(second, RotatedBoxes):
        return pairwise_iou_rotated(first, second)
    if isinstance(first, Boxes) and isinstance(second, Boxes):
        return pairwise_iou(first, second)
    return torch.zeros(len(first), len(second))


@dataclass(frozen=True)
class Matching:
    """Instances of answers a and b, by index.

    Attributes:
        pairs: (index in a, index in b) of those that are the same.
        ious: of the boxes of each pair.
        only_a, only_b: those without a counterpart, ascending.
    """

    pairs: tuple[tuple[int, int], ...]
    ious: tuple[float, ...]
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]


def match_instances(
    a: Instances, b: Instances, iou_threshold: float = 0.5, *, same_class: bool = False
) -> Matching:
    """Match one to one by the IoU of boxes, greedily: instances of a, best score first, take the
    instance of b that overlaps most.

    First among those of their class, so that two boxes of different classes around one object find
    their own; then what is left, irrespective of class.

    Args:
        a, b: on the CPU, with ``pred_boxes``, ``scores`` and ``pred_classes``; what is not finite has no
            counterpart.
        iou_threshold: least IoU of a pair.
        same_class: leave out the second step.
    """
    overlaps = box_overlaps(a.pred_boxes, b.pred_boxes).double().nan_to_num(_GONE).numpy().copy()
    overlaps[~_is_finite(a), :] = _GONE
    overlaps[:, ~_is_finite(b)] = _GONE
    order = np.argsort(-a.scores.double().numpy(), kind="stable")
    equal = (a.pred_classes[:, None] == b.pred_classes[None]).numpy()
    found = _pair_off(np.where(equal, overlaps, _GONE), order, iou_threshold)
    if not same_class:
        for i, j, _ in found:
            overlaps[i, :] = overlaps[:, j] = _GONE
        found += _pair_off(overlaps, order, iou_threshold)
    in_a, in_b = {i for i, _, _ in found}, {j for _, j, _ in found}
    return Matching(
        pairs=tuple((i, j) for i, j, _ in found),
        ious=tuple(iou for _, _, iou in found),
        only_a=tuple(i for i in range(len(a)) if i not in in_a),
        only_b=tuple(j for j in range(len(b)) if j not in in_b),
    )


def _is_finite(instances: Instances) -> NDArray[np.bool_]:
    finite = instances.pred_boxes.tensor.isfinite().all(dim=1) & instances.scores.isfinite()
    result: NDArray[np.bool_] = finite.numpy()
    return result


def _pair_off(
    overlaps: NDArray[np.float64], order: NDArray[np.int64], threshold: float
) -> list[tuple[int, int, float]]:
    """Row, column and overlap of each pair; ``overlaps`` are used up."""
    pairs: list[tuple[int, int, float]] = []
    if not overlaps.size:
        return pairs
    for i in order.tolist():
        j = int(overlaps[i].argmax())
        iou = float(overlaps[i, j])
        if iou >= threshold:
            pairs.append((i, j, iou))
            overlaps[:, j] = _GONE
    return pairs


@dataclass(frozen=True)
class Difference:
    """How far answers b differ from answers a, of one picture or, added up, of many.

    Attributes:
        matched: pairs of instances that are the same.
        only_a, only_b: instances without a counterpart.
        iou_sum, iou_min: of the boxes of pairs.
        score_shift_sum: of pairs, score in b less score in a.
        score_shift_max: the largest, either way.
        box_px_max: largest difference of a coordinate of a pair, in pixels; of rotated boxes also of
            the angle, in degrees.
        class_changes: pairs of different classes, as (class in a, class in b): number.
        mask_iou_min: of the masks of pairs; None if they were not compared.
    """

    matched: int = 0
    only_a: int = 0
    only_b: int = 0
    iou_sum: float = 0.0
    iou_min: float = 1.0
    score_shift_sum: float = 0.0
    score_shift_max: float = 0.0
    box_px_max: float = 0.0
    class_changes: dict[tuple[int, int], int] = field(default_factory=dict)
    mask_iou_min: float | None = None

    @property
    def matched_share(self) -> float:
        """Of the instances of both answers those that have a counterpart; 1 if there are none."""
        total = 2 * self.matched + self.only_a + self.only_b
        return 2 * self.matched / total if total else 1.0

    @property
    def iou_mean(self) -> float:
        """Of the boxes of pairs; 1 if there are none."""
        return self.iou_sum / self.matched if self.matched else 1.0

    @property
    def score_shift_mean(self) -> float:
        """Of pairs; above 0 where b is surer."""
        return self.score_shift_sum / self.matched if self.matched else 0.0

    def __add__(self, other: Difference) -> Difference:
        changes = dict(self.class_changes)
        for change, number in other.class_changes.items():
            changes[change] = changes.get(change, 0) + number
        masks = [d.mask_iou_min for d in (self, other) if d.mask_iou_min is not None]
        return Difference(
            matched=self.matched + other.matched,
            only_a=self.only_a + other.only_a,
            only_b=self.only_b + other.only_b,
            iou_sum=self.iou_sum + other.iou_sum,
            iou_min=min(self.iou_min, other.iou_min),
            score_shift_sum=self.score_shift_sum + other.score_shift_sum,
            score_shift_max=max(self.score_shift_max, other.score_shift_max),
            box_px_max=max(self.box_px_max, other.box_px_max),
            class_changes=changes,
            mask_iou_min=min(masks, default=None),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON; class changes with the most frequent first."""
        changes = sorted(self.class_changes.items(), key=lambda item: (-item[1], item[0]))
        return {
            "matched": self.matched,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "matched_share": self.matched_share,
            "iou_mean": self.iou_mean,
            "iou_min": self.iou_min,
            "score_shift_mean": self.score_shift_mean,
            "score_shift_max": self.score_shift_max,
            "box_px_max": self.box_px_max,
            "class_changes": [{"from": a, "to": b, "count": n} for (a, b), n in changes],
            "mask_iou_min": self.mask_iou_min,
        }


def difference(
    a: Instances,
    b: Instances,
    iou_threshold: float = 0.5,
    *,
    masks: bool = False,
) -> Difference:
    """Match two answers to one picture and measure how far they differ.

    Args:
        a, b, iou_threshold: see :func:`match_instances`.
        masks: compare the masks of pairs too; both have ``pred_masks``.
    """
    return difference_of(a, b, match_instances(a, b, iou_threshold), masks=masks)


def difference_of(
    a: Instances, b: Instances, matching: Matching, *, masks: bool = False
) -> Difference:
    """The difference of two answers that are matched already."""
    only_a, only_b = len(matching.only_a), len(matching.only_b)
    if not matching.pairs:
        return Difference(only_a=only_a, only_b=only_b)
    mine, theirs = (torch.tensor(index) for index in zip(*matching.pairs, strict=True))
    a, b = a[mine], b[theirs]
    shifts = b.scores.double() - a.scores.double()
    changes: dict[tuple[int, int], int] = {}
    for change in zip(a.pred_classes.tolist(), b.pred_classes.tolist(), strict=True):
        if change[0] != change[1]:
            changes[change] = changes.get(change, 0) + 1
    return Difference(
        matched=len(matching.pairs),
        only_a=only_a,
        only_b=only_b,
        iou_sum=sum(matching.ious),
        iou_min=min(matching.ious),
        score_shift_sum=float(shifts.sum()),
        score_shift_max=float(shifts.abs().max()),
        box_px_max=float(_shifts(a.pred_boxes, b.pred_boxes).max()),
        class_changes=changes,
        mask_iou_min=_worst_mask_iou(a, b) if masks else None,
    )


def _shifts(mine: Boxes | RotatedBoxes, theirs: Boxes | RotatedBoxes) -> Tensor:
    """Differences of the coordinates of boxes in pairs, none below 0."""
    shifts = (mine.tensor.double() - theirs.tensor.double()).abs()
    if isinstance(mine, RotatedBoxes):
        turns = shifts[:, 4] % 180  # half a turn is the same box
        shifts[:, 4] = torch.minimum(turns, 180 - turns)
    return shifts


def _worst_mask_iou(a: Instances, b: Instances) -> float:
    """Of instances in pairs."""
    import pycocotools.mask as mask_api  # here: most comparisons leave masks out

    return min(
        1.0 if mine == theirs else float(mask_api.iou([mine], [theirs], [0])[0, 0])
        for mine, theirs in zip(encode_masks(a), encode_masks(b), strict=True)
    )
