"""Which of the thousands of scored anchors become proposals."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision.ops
from torch import Tensor

from models.box_regression import BoxTransform
from models.structures import Boxes, Instances, RotatedBoxes


def decode_top_anchors(
    anchors: Sequence[Boxes | RotatedBoxes],
    pred_objectness_logits: Sequence[Tensor],
    pred_anchor_deltas: Sequence[Tensor],
    *,
    box2box_transform: BoxTransform,
    pre_nms_topk: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The best anchors of each of L levels, turned into boxes; B numbers per box.

    Args:
        anchors: per level its (Hi * Wi * A) anchors.
        pred_objectness_logits: per level (N, Hi * Wi * A).
        pred_anchor_deltas: per level (N, Hi * Wi * A, B).
        box2box_transform: turns anchors and deltas into boxes.
        pre_nms_topk: how many boxes of each level are kept.

    Returns:
        Boxes (N, M, B) and logits (N, M), level by level and best first within a level, and the
        level of each of the M (M,) int64.
    """
    level_boxes, level_logits, level_ids = [], [], []
    for level, (anchor, logits, deltas) in enumerate(
        zip(anchors, pred_objectness_logits, pred_anchor_deltas, strict=True)
    ):
        num_images, box_dim = deltas.shape[0], deltas.shape[2]
        num_kept = min(logits.shape[1], pre_nms_topk)
        top_logits, index = logits.topk(num_kept, dim=1)
        # Decoding after the choice gives the same boxes as before it, for a hundredth of the work.
        top_deltas = torch.gather(deltas, 1, index[:, :, None].expand(-1, -1, box_dim))
        boxes = box2box_transform.apply_deltas(
            top_deltas.reshape(-1, box_dim), anchor.tensor[index.flatten()]
        )
        level_boxes.append(boxes.reshape(num_images, num_kept, box_dim))
        level_logits.append(top_logits)
        level_ids.append(torch.full((num_kept,), level, dtype=torch.int64, device=logits.device))
    return torch.cat(level_boxes, dim=1), torch.cat(level_logits, dim=1), torch.cat(level_ids)


def find_top_rpn_proposals(
    anchors: Sequence[Boxes],
    pred_objectness_logits: Sequence[Tensor],
    pred_anchor_deltas: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
    *,
    box2box_transform: BoxTransform,
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
) -> list[Instances]:
    """Proposals of N images from the predictions of L levels, best first.

    Args:
        anchors: per level its (Hi * Wi * A) anchors.
        pred_objectness_logits: per level (N, Hi * Wi * A).
        pred_anchor_deltas: per level (N, Hi * Wi * A, 4).
        image_sizes: (height, width) of each image without padding; boxes are clipped to it.
        box2box_transform: turns anchors and deltas into boxes.
        nms_thresh: boxes of one level that overlap more (IoU) are suppressed.
        pre_nms_topk: how many boxes of each level enter NMS.
        post_nms_topk: how many proposals an image keeps.
        min_box_size: both sides of a proposal are longer, in pixels.

    Returns:
        Per image its proposals with ``proposal_boxes`` and ``objectness_logits``.
    """
    all_boxes, all_logits, all_levels = decode_top_anchors(
        anchors,
        pred_objectness_logits,
        pred_anchor_deltas,
        box2box_transform=box2box_transform,
        pre_nms_topk=pre_nms_topk,
    )
    results = []
    for decoded, logits, image_size in zip(all_boxes, all_logits, image_sizes, strict=True):
        finite = torch.isfinite(decoded).all(dim=1) & torch.isfinite(logits)
        proposals, scores, levels = Boxes(decoded[finite]), logits[finite], all_levels[finite]
        proposals.clip(image_size)
        nonempty = proposals.nonempty(threshold=min_box_size)
        proposals, scores, levels = proposals[nonempty], scores[nonempty], levels[nonempty]
        keep = torchvision.ops.batched_nms(proposals.tensor, scores.float(), levels, nms_thresh)
        keep = keep[:post_nms_topk]
        results.append(
            Instances(image_size, proposal_boxes=proposals[keep], objectness_logits=scores[keep])
        )
    return results
