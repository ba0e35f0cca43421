"""The choice of detections among scored boxes of regions (Girshick 2015, Fast R-CNN).

Shapes as in :mod:`models.heads.fast_rcnn`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision.ops
from torch import Tensor

from models.layers import batched_nms_rotated
from models.layers.batched_nms import best_per_image
from models.structures import Boxes, Instances, RotatedBoxes
from models.transfer import pays_together, to_device


def fast_rcnn_inference(
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    image_shapes: Sequence[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float | Sequence[float],
    topk_per_image: int | Sequence[int],
    *,
    rotated: bool = False,
) -> tuple[list[Instances], list[Tensor]]:
    """Detections of N images.

    Args:
        boxes: per image (Ri, K * B), or (Ri, B) when class-agnostic.
        scores: per image (Ri, K + 1), the background last.
        image_shapes: (height, width) of each image.
        score_thresh: a detection scores strictly more.
        nms_thresh: boxes of one class that overlap more (IoU) are suppressed; one number, or of each
            image its own.
        topk_per_image: how many detections an image keeps; negative keeps all. Likewise.
        rotated: boxes are rotated (B = 5): only near-horizontal ones are clipped to the image, and
            boxes of one class that overlap at least as much as ``nms_thresh`` are suppressed.

    Returns:
        Per image its detections (``pred_boxes``, ``scores``, ``pred_classes``), best first, and the
        indices (in 0 .. Ri - 1) of the regions that they came from.
    """
    if boxes and pays_together(boxes[0].device) and not rotated:
        return detect_together(
            boxes, scores, image_shapes, score_thresh, nms_thresh, topk_per_image
        )
    number = len(image_shapes)
    limits = nms_thresh if isinstance(nms_thresh, Sequence) else [nms_thresh] * number
    most = topk_per_image if isinstance(topk_per_image, Sequence) else [topk_per_image] * number
    results = [
        fast_rcnn_inference_single_image(
            boxes_per_image, scores_per_image, shape, score_thresh, limit, topk, rotated=rotated
        )
        for boxes_per_image, scores_per_image, shape, limit, topk in zip(
            boxes, scores, image_shapes, limits, most, strict=True
        )
    ]
    return [instances for instances, _ in results], [index for _, index in results]


def fast_rcnn_inference_single_image(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
    *,
    rotated: bool = False,
) -> tuple[Instances, Tensor]:
    """One image of :func:`fast_rcnn_inference`."""
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    region_index = finite.nonzero().flatten()
    boxes, scores = boxes[finite], scores[finite][:, :-1]
    box_type: type[Boxes] | type[RotatedBoxes] = RotatedBoxes if rotated else Boxes
    nms = batched_nms_rotated if rotated else torchvision.ops.batched_nms
    box_dim = 5 if rotated else 4
    clipped = box_type(boxes.reshape(-1, box_dim))
    clipped.clip(image_shape)
    class_boxes = clipped.tensor.view(-1, boxes.shape[1] // box_dim, box_dim)  # (R, K or 1, B)

    above = scores > score_thresh
    region, pred_classes = above.nonzero().unbind(1)
    scores = scores[above]
    agnostic = class_boxes.shape[1] == 1
    candidates = class_boxes[region, 0] if agnostic else class_boxes[region, pred_classes]

    keep = nms(candidates.float(), scores.float(), pred_classes, nms_thresh)
    if topk_per_image >= 0:
        keep = keep[:topk_per_image]
    detections = Instances(
        image_shape,
        pred_boxes=box_type(candidates[keep]),
        scores=scores[keep],
        pred_classes=pred_classes[keep],
    )
    return detections, region_index[region[keep]]


def detect_together(
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    image_shapes: Sequence[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float | Sequence[float],
    topk_per_image: int | Sequence[int],
) -> tuple[list[Instances], list[Tensor]]:
    """:func:`fast_rcnn_inference` for all images at once, as a GPU likes it; upright boxes only."""
    lengths = [len(regions) for regions in boxes]
    all_boxes, all_scores = torch.cat(list(boxes)).float(), torch.cat(list(scores))
    # Of each region its image, and how far its boxes may reach.
    images, limits = to_device(
        (
            torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)),
            torch.tensor([[w, h, w, h] for h, w in image_shapes], dtype=torch.float32),
        ),
        all_boxes.device,
    )
    finite = all_boxes.isfinite().all(dim=1) & all_scores.isfinite().all(dim=1)
    all_scores = all_scores[:, :-1]
    region, classes = ((all_scores > score_thresh) & finite[:, None]).nonzero().unbind(1)
    class_boxes = all_boxes.view(len(all_boxes), all_boxes.shape[1] // 4, 4)  # (R, K or 1, 4)
    candidates = class_boxes[region, classes if class_boxes.shape[1] > 1 else 0]
    candidates = torch.minimum(candidates.clamp(min=0), limits[images[region]])
    found = all_scores[region, classes]
    chosen = best_per_image(
        candidates,
        found.float(),
        classes,
        images[region],
        num_images=len(lengths),
        num_classes=all_scores.shape[1],
        iou_threshold=nms_thresh,
        most=topk_per_image,
    )
    detections, indices, start = [], [], 0
    for index, shape, length in zip(chosen, image_shapes, lengths, strict=True):
        detections.append(
            Instances(
                shape,
                pred_boxes=Boxes(candidates[index]),
                scores=found[index],
                pred_classes=classes[index],
            )
        )
        indices.append(region[index] - start)
        start += length
    return detections, indices
