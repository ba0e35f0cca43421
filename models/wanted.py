"""What of a model's answer somebody wants, so that the rest need not be computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.structures import Instances


@dataclass(frozen=True)
class Wanted:
    """A choice among what a model finds in one image; an input has it under ``wanted``.

    It acts behind the model's own thresholds, NMS and cap: what survives is what filtering the full
    answer would leave. Masks and keypoints are computed for that alone.

    Attributes:
        score_threshold: instances score at least this.
        class_ids: of these classes; None is all.
        max_detections: the best ones, at most so many; negative is no bound.
        masks, keypoints, segmentation: whether they are wanted at all; the last are semantic and
            panoptic maps, for which no instance is left out.
    """

    score_threshold: float = 0.0
    class_ids: frozenset[int] | None = None
    max_detections: int = -1
    masks: bool = True
    keypoints: bool = True
    segmentation: bool = True

    def index(self, instances: Instances, among: Tensor | None = None) -> Tensor:
        """Indices (R',) int64 of the instances that are wanted, best first as they are.

        Args:
            instances: with ``scores`` and ``pred_classes``.
            among: (R,) bool, instances that count at all; None is all.
        """
        keep: Tensor = instances.scores >= self.score_threshold
        if among is not None:
            keep = keep & among
        if self.class_ids is not None:
            classes = instances.pred_classes
            ids = torch.tensor(sorted(self.class_ids), dtype=classes.dtype, device=classes.device)
            keep = keep & torch.isin(classes, ids)
        index = keep.nonzero().flatten()
        if self.max_detections >= 0:
            index = index[: self.max_detections]
        return index


EVERYTHING = Wanted()


def wanted_of(inputs: dict[str, Any]) -> Wanted:
    """What is wanted of one input of a model."""
    wanted: Wanted = inputs.get("wanted", EVERYTHING)
    return wanted
