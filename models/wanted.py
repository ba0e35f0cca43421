"""What of a model's answer somebody wants, so that the rest need not be computed.

Two settings of a model may be other ones for an image: its NMS threshold and how many instances it keeps.
They are no choice among the answer, since what greedy NMS leaves at another threshold is no part of what
it leaves at the model's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.structures import Instances


@dataclass(frozen=True)
class Wanted:
    """A choice among what a model finds in one image; an input has it under ``wanted``.

    It acts behind the model's thresholds, NMS and cap: what survives is what filtering the full answer
    would leave. Masks and keypoints are computed for that alone. The last two are overrides: with them
    the full answer is that of a model whose config has these values.

    Attributes:
        score_threshold: instances score at least this.
        class_thresholds: class ids, each with what its instances score at least in the place of
            ``score_threshold``.
        class_ids: of these classes; None is all.
        max_detections: the best ones, at most so many; negative is no bound.
        masks, keypoints, segmentation: whether they are wanted at all; the last are semantic and
            panoptic maps, for which no instance is left out.
        nms_threshold: IoU above which a box of the same class is suppressed; None is the model's own.
        detections_per_image: what the model keeps at most, before the choice; None is the model's own,
            negative no bound.
    """

    score_threshold: float = 0.0
    class_thresholds: tuple[tuple[int, float], ...] = ()
    class_ids: frozenset[int] | None = None
    max_detections: int = -1
    masks: bool = True
    keypoints: bool = True
    segmentation: bool = True
    nms_threshold: float | None = None
    detections_per_image: int | None = None

    @property
    def overrides(self) -> bool:
        """Whether a setting of the model is another one."""
        return self.nms_threshold is not None or self.detections_per_image is not None

    @property
    def overrides_alone(self) -> Wanted:
        """The same overrides, and everything that is found with them."""
        return Wanted(
            nms_threshold=self.nms_threshold, detections_per_image=self.detections_per_image
        )

    def nms_threshold_or(self, own: float) -> float:
        """Its NMS threshold, of a model that has ``own``."""
        return own if self.nms_threshold is None else self.nms_threshold

    def cap_or(self, own: int) -> int:
        """How many instances are kept, by a model that keeps ``own``."""
        return own if self.detections_per_image is None else self.detections_per_image

    def index(self, instances: Instances, among: Tensor | None = None) -> Tensor:
        """Indices (R',) int64 of the instances that are wanted, best first as they are.

        Args:
            instances: with ``scores`` and ``pred_classes``.
            among: (R,) bool, instances that count at all; None is all.
        """
        keep: Tensor = instances.scores >= self._least_scores(instances)
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

    def _least_scores(self, instances: Instances) -> Tensor | float:
        """What each instance has to score: one number for all of them, or (R,)."""
        if not self.class_thresholds:
            return self.score_threshold
        ids, thresholds = zip(*self.class_thresholds, strict=True)
        others = max(ids) + 1
        scores: Tensor = instances.scores
        table = scores.new_full((others + 1,), self.score_threshold)
        table[list(ids)] = scores.new_tensor(thresholds)
        classes: Tensor = instances.pred_classes
        return table[classes.clamp(max=others)]


EVERYTHING = Wanted()


def wanted_of(inputs: dict[str, Any]) -> Wanted:
    """What is wanted of one input of a model."""
    wanted: Wanted = inputs.get("wanted", EVERYTHING)
    return wanted


def nms_thresholds(wanted: Sequence[Wanted] | None, own: float) -> float | list[float]:
    """The model's own for all images, or, where ``wanted`` tells of each, one for each."""
    return own if wanted is None else [one.nms_threshold_or(own) for one in wanted]


def caps(wanted: Sequence[Wanted] | None, own: int) -> int | list[int]:
    """Like :func:`nms_thresholds`: how many instances an image keeps."""
    return own if wanted is None else [one.cap_or(own) for one in wanted]


def takes_wanted(function: Callable[..., Any]) -> bool:
    """Whether a part of a model, which may be somebody's own, takes what is wanted of each image."""
    return "wanted" in inspect.signature(function).parameters
