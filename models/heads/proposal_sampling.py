"""Which proposals of an image a training step looks at, and what they should have become.

Shapes: Ri proposals and Gi objects of image i; K classes, and the background is class K.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.matcher import Matcher, overlaps
from models.structures import Instances

GROUND_TRUTH_LOGIT = math.log((1.0 - 1e-10) / 1e-10)
"""Objectness of a ground-truth box that is made a proposal: all but certain."""


def add_ground_truth_to_proposals(
    truths: Sequence[Instances], proposals: Sequence[Instances]
) -> list[Instances]:
    """Per image its proposals and behind them, as proposals too, the boxes of its objects.

    They are perfect examples, and early in a training the only good ones.

    Raises:
        ValueError: proposals have a field that the ground truth cannot give.
    """
    return [_add(truth, found) for truth, found in zip(truths, proposals, strict=True)]


def _add(truth: Instances, proposals: Instances) -> Instances:
    added = Instances(proposals.image_size)
    for name in proposals.get_fields():
        if name == "proposal_boxes":
            added.set(name, truth.gt_boxes)
        elif name == "objectness_logits":
            logits = proposals.objectness_logits
            added.set(name, logits.new_full((len(truth),), GROUND_TRUTH_LOGIT))
        elif truth.has(name):
            added.set(name, truth.get(name))
        else:
            raise ValueError(
                f"Proposals have a field {name!r}, which the ground truth does not have: give it "
                "there too, or set MODEL.ROI_HEADS.PROPOSAL_APPEND_GT to false."
            )
    return Instances.cat([proposals, added])


def match_proposals(
    proposals: Instances, truth: Instances, matcher: Matcher, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Each proposal's object and class.

    Returns:
        (R,) int64 index of the object that it is matched with (0 where there is none), and (R,)
        int64 class: the object's, ``num_classes`` for the background, -1 to ignore.
    """
    matches, labels = matcher(overlaps(truth.gt_boxes, proposals.proposal_boxes))
    if len(truth) == 0:
        return matches, torch.full_like(matches, num_classes)
    classes = truth.gt_classes[matches]
    classes[labels == 0] = num_classes
    classes[labels == -1] = -1
    return matches, classes


def number_masks(truths: Sequence[Instances]) -> list[Instances]:
    """The same objects, with their places ``gt_index`` (Gi,) int64 instead of ``gt_masks``.

    Hundreds of proposals are sampled and each has its object's fields: of masks as large as the image
    only the few of the foreground are to be copied, by :func:`set_masks_`.
    """
    numbered = []
    for truth in truths:
        fields = {name: x for name, x in truth.get_fields().items() if name != "gt_masks"}
        places = torch.arange(len(truth), device=truth.gt_classes.device)
        numbered.append(Instances(truth.image_size, **fields, gt_index=places))
    return numbered


def set_masks_(proposals: Sequence[Instances], truths: Sequence[Instances]) -> None:
    """Give proposals, in place, the ``gt_masks`` of the objects that they are numbered with."""
    for found, truth in zip(proposals, truths, strict=True):
        if found.has("gt_index") and truth.has("gt_masks"):
            found.gt_masks = truth.gt_masks[found.gt_index]


def select_foreground_proposals(
    proposals: Sequence[Instances], num_classes: int
) -> tuple[list[Instances], list[Tensor]]:
    """Per image the proposals that are matched with an object, and (Ri,) bool which they are."""
    chosen = [(p.gt_classes != -1) & (p.gt_classes != num_classes) for p in proposals]
    return [p[mask.nonzero().flatten()] for p, mask in zip(proposals, chosen, strict=True)], chosen


def select_proposals_with_visible_keypoints(proposals: Sequence[Instances]) -> list[Instances]:
    """Per image the proposals inside which a labelled keypoint of their object lies.

    Others have nothing to teach: a keypoint head learns positions inside of the proposal. An image
    without proposals stays as it is and needs no ``gt_keypoints``.
    """
    chosen = []
    for found in proposals:
        if len(found) == 0:
            chosen.append(found)
            continue
        x, y, visibility = found.gt_keypoints.tensor.unbind(2)
        x1, y1, x2, y2 = found.proposal_boxes.tensor[:, :, None].unbind(1)
        inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
        useful = (inside & (visibility >= 1)).any(dim=1)
        chosen.append(found[useful.nonzero().flatten()])
    return chosen
