"""Which of the thousands of scored anchors become proposals."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torchvision.ops
from torch import Tensor

from models.box_regression import BoxTransform
from models.layers.batched_nms import suppress
from models.structures import Boxes, Instances, RotatedBoxes
from models.transfer import pays_together, to_device


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
    if pays_together(all_boxes.device):
        return select_together(
            all_boxes,
            all_logits,
            [min(logits.shape[1], pre_nms_topk) for logits in pred_objectness_logits],
            image_sizes,
            nms_thresh=nms_thresh,
            post_nms_topk=post_nms_topk,
            min_box_size=min_box_size,
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


def select_together(
    boxes: Tensor,
    logits: Tensor,
    level_sizes: Sequence[int],
    image_sizes: Sequence[tuple[int, int]],
    *,
    nms_thresh: float,
    post_nms_topk: int,
    min_box_size: float,
) -> list[Instances]:
    """The second half of :func:`find_top_rpn_proposals` for all images at once, as a GPU likes it.

    It waits for the device to settle the suppression and to learn how many proposals there are.

    Args:
        boxes, logits: (N, M, 4) and (N, M), level by level and best first within a level.
        level_sizes: how many of the M are of each level.
        image_sizes, nms_thresh, post_nms_topk, min_box_size: as there.
    """
    limits = to_device(
        torch.tensor([[w, h, w, h] for h, w in image_sizes], dtype=boxes.dtype), boxes.device
    )
    valid = boxes.isfinite().all(dim=2) & logits.isfinite()
    boxes = torch.minimum(boxes.clamp(min=0), limits[:, None])
    valid &= (boxes[..., 2:] - boxes[..., :2] > min_box_size).all(dim=2)
    # Each level of each image is a group, padded to the largest.
    longest = max(level_sizes)
    by_level = [
        F.pad(level, (0, 0, 0, longest - level.shape[1]))
        for level in torch.split(boxes, list(level_sizes), dim=1)
    ]
    valid_by_level = [
        F.pad(level, (0, longest - level.shape[1]))
        for level in torch.split(valid, list(level_sizes), dim=1)
    ]
    kept = suppress(
        torch.stack(by_level, dim=1).flatten(0, 1),
        torch.stack(valid_by_level, dim=1).flatten(0, 1),
        nms_thresh,
    ).view(len(boxes), len(level_sizes), longest)
    keep = torch.cat([kept[:, level, :size] for level, size in enumerate(level_sizes)], dim=1)

    best = logits.masked_fill(~keep, -torch.inf).argsort(dim=1, descending=True, stable=True)
    best = best[:, :post_nms_topk]
    chosen_boxes = boxes.gather(1, best[:, :, None].expand(-1, -1, 4))
    chosen_logits = logits.gather(1, best)
    counts = keep.sum(dim=1).clamp(max=post_nms_topk).tolist()
    return [
        Instances(
            image_size,
            proposal_boxes=Boxes(chosen_boxes[i, :count]),
            objectness_logits=chosen_logits[i, :count],
        )
        for i, (image_size, count) in enumerate(zip(image_sizes, counts, strict=True))
    ]
