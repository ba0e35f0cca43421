"""Class scores and boxes of regions, and the choice of detections (Girshick 2015, Fast R-CNN).

Shapes: N images; Ri regions of image i, R of all; K foreground classes; B numbers per box, 4
or, rotated, 5. ``pred_class_logits`` (R, K + 1), the background is the last column; ``pred_proposal_deltas``
(R, K * B), or (R, B) when box regression is class-agnostic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
import torchvision.ops
from torch import Tensor, nn

from models.box_regression import Box2BoxTransform
from models.config import Config
from models.configurable import configurable
from models.layers import ShapeSpec, batched_nms_rotated
from models.layers.batched_nms import best_per_image
from models.structures import Boxes, Instances, RotatedBoxes
from models.transfer import pays_together, to_device
from models.wanted import Wanted, caps, nms_thresholds


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


class FastRCNNOutputLayers(nn.Module):
    """Two linear layers: class scores (``cls_score``) and box deltas (``bbox_pred``).

    Args:
        input_shape: of one region's features.
        box2box_transform: turns proposals and deltas into boxes.
        num_classes: foreground classes, K.
        test_score_thresh, test_nms_thresh, test_topk_per_image: see :func:`fast_rcnn_inference`.
        cls_agnostic_bbox_reg: one box per region instead of one for each class.
        smooth_l1_beta, box_reg_loss_type, loss_weight: of the losses.
        use_fed_loss, get_fed_loss_cls_weights, fed_loss_num_classes: federated loss (LVIS).
        use_sigmoid_ce: a sigmoid for each class instead of a softmax over all.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        box2box_transform: Box2BoxTransform,
        num_classes: int,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
        test_topk_per_image: int = 100,
        cls_agnostic_bbox_reg: bool = False,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        loss_weight: float | Mapping[str, float] = 1.0,
        use_fed_loss: bool = False,
        use_sigmoid_ce: bool = False,
        get_fed_loss_cls_weights: Callable[[], Tensor] | None = None,
        fed_loss_num_classes: int = 50,
    ) -> None:
        super().__init__()
        features = input_shape.known_channels * (input_shape.width or 1) * (input_shape.height or 1)
        self.num_classes = num_classes
        self.box2box_transform = box2box_transform
        self.cls_agnostic_bbox_reg = cls_agnostic_bbox_reg
        box_dim = len(box2box_transform.weights)
        self.cls_score = nn.Linear(features, num_classes + 1)
        self.bbox_pred = nn.Linear(
            features, box_dim if cls_agnostic_bbox_reg else num_classes * box_dim
        )
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        for layer in (self.cls_score, self.bbox_pred):
            nn.init.zeros_(layer.bias)
        self.test_score_thresh = test_score_thresh
        self.test_nms_thresh = test_nms_thresh
        self.test_topk_per_image = test_topk_per_image
        self.smooth_l1_beta = smooth_l1_beta
        self.box_reg_loss_type = box_reg_loss_type
        if not isinstance(loss_weight, Mapping):
            loss_weight = {"loss_cls": loss_weight, "loss_box_reg": loss_weight}
        self.loss_weight = dict(loss_weight)
        self.use_fed_loss = use_fed_loss
        self.use_sigmoid_ce = use_sigmoid_ce
        self.get_fed_loss_cls_weights = get_fed_loss_cls_weights
        self.fed_loss_num_classes = fed_loss_num_classes

    @classmethod
    def from_config(cls, cfg: Config, input_shape: ShapeSpec) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.ROI_HEADS`` and ``ROI_BOX_HEAD``."""
        heads, box_head = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "box2box_transform": Box2BoxTransform(weights=tuple(box_head.BBOX_REG_WEIGHTS)),
            "num_classes": heads.NUM_CLASSES,
            "test_score_thresh": heads.SCORE_THRESH_TEST,
            "test_nms_thresh": heads.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "cls_agnostic_bbox_reg": box_head.CLS_AGNOSTIC_BBOX_REG,
            "smooth_l1_beta": box_head.SMOOTH_L1_BETA,
            "box_reg_loss_type": box_head.BBOX_REG_LOSS_TYPE,
            "loss_weight": {"loss_box_reg": box_head.BBOX_REG_LOSS_WEIGHT, "loss_cls": 1.0},
            "use_fed_loss": box_head.USE_FED_LOSS,
            "use_sigmoid_ce": box_head.USE_SIGMOID_CE,
            "fed_loss_num_classes": box_head.FED_LOSS_NUM_CLASSES,
        }

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, ...) features -> class logits (R, K + 1) and deltas (R, K * B) or (R, B)."""
        if x.dim() > 2:
            x = torch.flatten(x, start_dim=1)
        return self.cls_score(x), self.bbox_pred(x)

    def inference(
        self,
        predictions: tuple[Tensor, Tensor],
        proposals: Sequence[Instances],
        wanted: Sequence[Wanted] | None = None,
    ) -> tuple[list[Instances], list[Tensor]]:
        """Detections from what :meth:`forward` returned; see :func:`fast_rcnn_inference`.

        ``wanted`` has of each image its overrides; None is without.
        """
        return fast_rcnn_inference(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [proposals_per_image.image_size for proposals_per_image in proposals],
            self.test_score_thresh,
            nms_thresholds(wanted, self.test_nms_thresh),
            caps(wanted, self.test_topk_per_image),
            rotated=len(self.box2box_transform.weights) == 5,
        )

    def predict_boxes(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> list[Tensor]:
        """Per image (Ri, K * B) boxes, or (Ri, B) when class-agnostic; ``proposal_boxes`` are read."""
        if not proposals:
            return []
        _, deltas = predictions
        sources = torch.cat([p.proposal_boxes.tensor for p in proposals], dim=0)
        boxes = self.box2box_transform.apply_deltas(deltas, sources)
        return list(torch.split(boxes, [len(p) for p in proposals]))

    def predict_probs(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> list[Tensor]:
        """Per image (Ri, K + 1) probabilities."""
        logits, _ = predictions
        probs = logits.sigmoid() if self.use_sigmoid_ce else F.softmax(logits, dim=-1)
        return list(torch.split(probs, [len(p) for p in proposals]))
