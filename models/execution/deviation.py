"""How far the answers of two ways to run one model lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from models.evaluation.matching import box_overlaps
from models.structures import Instances

SAME_OBJECT_IOU = 0.9
EXACT_SCORE, EXACT_BOX = 1e-4, 0.01
"""What the exact mode promises: scores, and boxes in pixels."""


@dataclass(frozen=True)
class Deviation:
    """Worst differences between two answers to the same pictures.

    Attributes:
        instances: of the reference answer (or proposals, of a model that gives no more).
        matched: share of them with a counterpart: of their class, IoU at least 0.9.
        exact: share of them with a counterpart within 1e-4 in score and 0.01 pixels in the box.
        score: largest difference of scores of matched ones.
        box_px: largest difference of a coordinate of matched ones, in pixels.
        pixels: share of the pixels of a semantic map that are of another class.
    """

    instances: int
    matched: float
    exact: float
    score: float
    box_px: float
    pixels: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @property
    def is_exact(self) -> bool:
        """Whether the exact mode's promise holds, but for a few boxes that tie in a choice."""
        return self.exact >= 0.95 and self.pixels <= 1e-3


def deviation(reference: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> Deviation:
    """Compare the outputs of a model, image by image."""
    total = matched = exact = 0
    score = box_px = pixels = 0.0
    for mine, theirs in zip(reference, other, strict=True):
        if "sem_seg" in mine:
            differ = mine["sem_seg"].argmax(dim=0) != theirs["sem_seg"].argmax(dim=0)
            pixels = max(pixels, float(differ.float().mean()))
        wanted, found = _boxes(mine), _boxes(theirs)
        if wanted is None or found is None:
            continue
        total += len(wanted[1])
        scores, corners, same = _differences(wanted, found)
        matched += int(same.sum())
        exact += int((same & (scores <= EXACT_SCORE) & (corners <= EXACT_BOX)).sum())
        if same.any():
            score = max(score, float(scores[same].max()))
            box_px = max(box_px, float(corners[same].max()))
    share = 1 / total if total else 1.0
    return Deviation(
        instances=total,
        matched=matched * share if total else 1.0,
        exact=exact * share if total else 1.0,
        score=score,
        box_px=box_px,
        pixels=pixels,
    )


def _boxes(output: dict[str, Any]) -> tuple[Any, Tensor, Tensor] | None:
    """Boxes, scores and classes of an output."""
    found: Instances | None = output.get("instances")
    if found is not None:
        return found.pred_boxes, found.scores.float(), found.pred_classes
    proposals: Instances | None = output.get("proposals")
    if proposals is None:
        return None
    scores = proposals.objectness_logits.float().sigmoid()
    return proposals.proposal_boxes, scores, torch.zeros_like(scores).long()


def _differences(
    wanted: tuple[Any, Tensor, Tensor], found: tuple[Any, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Per wanted box the difference in score and in the box to its counterpart, and whether it has one."""
    boxes, scores, classes = wanted
    others, other_scores, other_classes = found
    if not len(scores) or not len(other_scores):
        nothing = scores.new_zeros(len(scores))
        return nothing, nothing, nothing.bool()
    distance = (boxes.tensor[:, None] - others.tensor[None]).abs().amax(dim=2)
    distance = torch.where(classes[:, None] == other_classes[None], distance, torch.inf)
    nearest, index = distance.min(dim=1)
    overlap = box_overlaps(boxes, others).gather(1, index[:, None])[:, 0]
    same = (overlap >= SAME_OBJECT_IOU) & nearest.isfinite()
    return (scores - other_scores[index]).abs(), nearest, same
