"""Matching predictions to ground truth by quality (IoU), for training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.structures import Boxes, RotatedBoxes, pairwise_iou, pairwise_iou_rotated


class Matcher:
    """Label each prediction by its best ground truth.

    Args:
        thresholds: increasing bounds that cut the quality into len(thresholds) + 1 ranges.
        labels: the label of each range, out of -1 (ignore), 0 (negative), 1 (positive).
        allow_low_quality_matches: also make positive, for each ground truth, the predictions that
            match it best, whatever the quality.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        labels: Sequence[int],
        allow_low_quality_matches: bool = False,
    ) -> None:
        if len(labels) != len(thresholds) + 1:
            raise ValueError("Matcher needs one label more than thresholds.")
        if not set(labels) <= {-1, 0, 1}:
            raise ValueError("Labels of a Matcher are -1, 0 or 1.")
        if list(thresholds) != sorted(thresholds) or (thresholds and thresholds[0] <= 0):
            raise ValueError("Thresholds of a Matcher are positive and increase.")
        self.bounds = [-float("inf"), *thresholds, float("inf")]
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Match by a quality matrix (M ground truths, R predictions), all >= 0.

        Returns:
            (R,) int64 index of the matched ground truth (0 where there is none), and (R,) int8 labels.
        """
        num_truths, num_predictions = match_quality_matrix.shape
        device = match_quality_matrix.device
        if num_truths == 0:
            matches = torch.zeros(num_predictions, dtype=torch.int64, device=device)
            return matches, torch.full_like(matches, self.labels[0], dtype=torch.int8)
        quality, matches = match_quality_matrix.max(dim=0)
        labels = torch.full_like(matches, 1, dtype=torch.int8)
        for label, low, high in zip(self.labels, self.bounds, self.bounds[1:], strict=False):
            labels[(quality >= low) & (quality < high)] = label
        if self.allow_low_quality_matches:
            best_per_truth = match_quality_matrix.max(dim=1).values
            # A truth that meets nothing is matched best by everything: nobody is to learn it.
            best_per_truth = best_per_truth.masked_fill(best_per_truth <= 0, float("inf"))
            labels[(match_quality_matrix == best_per_truth[:, None]).any(dim=0)] = 1
        return matches, labels


def overlaps(truths: Boxes | RotatedBoxes, boxes: Boxes | RotatedBoxes) -> Tensor:
    """(M, R) IoU of M ground-truth boxes with R others, what a :class:`Matcher` takes.

    Raises:
        ValueError: one kind is rotated and the other is not.
    """
    if isinstance(truths, RotatedBoxes) and isinstance(boxes, RotatedBoxes):
        return pairwise_iou_rotated(truths, boxes)
    if isinstance(truths, Boxes) and isinstance(boxes, Boxes):
        return pairwise_iou(truths, boxes)
    raise ValueError(
        f"The model's boxes are {type(boxes).__name__}, and gt_boxes of the ground truth are "
        f"{type(truths).__name__}: both must be of one kind."
    )
