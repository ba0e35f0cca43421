"""What two versions answer otherwise to one image.

Like is compared with like. Both answers are taken down to the same score: the largest of the request's
threshold and of both models' own. An instance that one version alone has counts only where the other's
answer is complete: below the lowest score of an answer that was cut at its maximum, nobody knows.
Classes are told by their names, since ids may have been dealt out anew. Boxes, scores and classes are
compared; masks, keypoints and semantic maps are not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from models.evaluation.matching import match_instances
from models.structures import Instances
from models.wanted import Wanted
from service.inference.detector import ModelDescription

SAME_OBJECT_IOU = 0.5
"""Two boxes that overlap so far are of one object."""


@dataclass(frozen=True)
class ImageDifference:
    """How far two answers to one image lie apart.

    Attributes:
        score_shifts: the candidate's score less the current version's, of each matched pair: one object,
            one class.
        ious: of the boxes of each matched pair.
        class_changes: class by the current version and class by the candidate, of each pair that is one
            object to both and of different classes.
        only_current, only_candidate: class of each instance without a counterpart.
    """

    score_shifts: list[float] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)
    class_changes: list[tuple[str, str]] = field(default_factory=list)
    only_current: list[str] = field(default_factory=list)
    only_candidate: list[str] = field(default_factory=list)

    @property
    def largest_shift(self) -> float:
        """Largest absolute difference in score of a matched pair; 0 without one."""
        return max(map(abs, self.score_shifts), default=0.0)

    @property
    def disagreements(self) -> int:
        """Objects that are not the same in both answers."""
        return len(self.class_changes) + len(self.only_current) + len(self.only_candidate)


def wanted_of_candidate(
    wanted: Wanted, current: ModelDescription, candidate: ModelDescription
) -> Wanted:
    """What to ask the candidate for, to compare it with the current version's answer to ``wanted``.

    All classes and as many instances as it finds, since its own may stand for what the request has left
    out. Masks and keypoints as the request has them, though they are not compared: so the candidate
    takes the time and the memory that it would take in the current version's place. Where classes have
    thresholds of their own, both answers are complete from the highest on.
    """
    own = [wanted.score_threshold, *(threshold for _, threshold in wanted.class_thresholds)]
    threshold = max(*own, current.score_threshold, candidate.score_threshold)
    return dataclasses.replace(
        wanted, score_threshold=threshold, class_thresholds=(), class_ids=None, max_detections=-1
    )


def compare_predictions(
    ours: Instances,
    theirs: Instances,
    current: ModelDescription,
    candidate: ModelDescription,
    wanted: Wanted,
) -> ImageDifference:
    """Compare two answers to one image.

    Args:
        ours, theirs: of the current version and of the candidate, on the CPU, with ``pred_boxes``,
            ``scores`` and ``pred_classes``, best first.
        current, candidate: the two models.
        wanted: what the request wanted, and so what the current version left out; the candidate was
            asked for :func:`wanted_of_candidate`.
    """
    asked = wanted_of_candidate(wanted, current, candidate)
    threshold = asked.score_threshold
    same = dataclasses.replace(wanted, score_threshold=threshold, class_thresholds=())
    ours = ours[same.index(ours)]
    theirs = theirs[asked.index(theirs)]
    our_names, their_names = _names(ours, current), _names(theirs, candidate)
    ids = {name: i for i, name in enumerate(dict.fromkeys([*our_names, *their_names]))}
    matching = match_instances(
        _with_classes(ours, [ids[name] for name in our_names]),
        _with_classes(theirs, [ids[name] for name in their_names]),
        SAME_OBJECT_IOU,
    )
    found = ImageDifference()
    our_scores, their_scores = ours.scores.tolist(), theirs.scores.tolist()
    for (i, j), iou in zip(matching.pairs, matching.ious, strict=True):
        if our_names[i] == their_names[j]:
            found.score_shifts.append(their_scores[j] - our_scores[i])
            found.ious.append(iou)
        else:
            found.class_changes.append((our_names[i], their_names[j]))
    least = _complete_from(their_scores, threshold, asked.cap_or(candidate.max_detections))
    found.only_current.extend(our_names[i] for i in matching.only_a if our_scores[i] >= least)
    least = _complete_from(our_scores, threshold, wanted.max_detections)
    known = None if wanted.class_ids is None else {current.class_names[i] for i in wanted.class_ids}
    found.only_candidate.extend(
        their_names[j]
        for j in matching.only_b
        if their_scores[j] >= least and (known is None or their_names[j] in known)
    )
    return found


def _complete_from(scores: Sequence[float], threshold: float, most: int) -> float:
    """The score down to which an answer has left out nothing; a negative ``most`` is no bound."""
    return max(threshold, min(scores)) if scores and 0 <= most <= len(scores) else threshold


def _names(instances: Instances, model: ModelDescription) -> list[str]:
    return [model.class_names[i] for i in instances.pred_classes.tolist()]


def _with_classes(instances: Instances, classes: list[int]) -> Instances:
    return Instances(
        instances.image_size,
        pred_boxes=instances.pred_boxes,
        scores=instances.scores,
        pred_classes=torch.tensor(classes, dtype=torch.int64),
    )
