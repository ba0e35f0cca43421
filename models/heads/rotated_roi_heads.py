"""RoI heads for rotated boxes.

Shapes as in :mod:`models.heads.fast_rcnn`, with B = 5 numbers per box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.box_regression import Box2BoxTransformRotated
from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.heads.box_head import build_box_head
from models.heads.fast_rcnn import FastRCNNOutputLayers
from models.heads.roi_heads import (
    ROI_HEADS_REGISTRY,
    StandardROIHeads,
    pooled_shape,
    pooler_from_config,
)
from models.layers import ShapeSpec, batched_nms_rotated
from models.structures import Instances, RotatedBoxes


def fast_rcnn_inference_rotated(
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    image_shapes: Sequence[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[Tensor]]:
    """Detections of N images, in rotated boxes.

    Args:
        boxes: per image (Ri, K * 5), or (Ri, 5) when class-agnostic.
        scores: per image (Ri, K + 1), the background last.
        image_shapes: (height, width) of each image; near-horizontal boxes are clipped to it.
        score_thresh: a detection scores strictly more.
        nms_thresh: boxes of one class that overlap at least so much (IoU) are suppressed.
        topk_per_image: how many detections an image keeps; negative keeps all.

    Returns:
        Per image its detections (``pred_boxes`` as :class:`RotatedBoxes`, ``scores``,
        ``pred_classes``), best first, and the indices (in 0 .. Ri - 1) of the regions that they
        came from.
    """
    results = [
        fast_rcnn_inference_single_image_rotated(
            boxes_per_image, scores_per_image, shape, score_thresh, nms_thresh, topk_per_image
        )
        for boxes_per_image, scores_per_image, shape in zip(
            boxes, scores, image_shapes, strict=True
        )
    ]
    return [instances for instances, _ in results], [index for _, index in results]


def fast_rcnn_inference_single_image_rotated(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, Tensor]:
    """One image of :func:`fast_rcnn_inference_rotated`."""
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    region_index = finite.nonzero().flatten()
    boxes, scores = boxes[finite], scores[finite][:, :-1]
    clipped = RotatedBoxes(boxes.reshape(-1, 5))
    clipped.clip(image_shape)
    boxes_per_region = boxes.shape[1] // 5  # K, or 1 when class-agnostic
    class_boxes = clipped.tensor.view(boxes.shape[0], boxes_per_region, 5)

    above = scores > score_thresh
    region, pred_classes = above.nonzero().unbind(1)
    scores = scores[above]
    agnostic = boxes_per_region == 1
    candidates = class_boxes[region, 0] if agnostic else class_boxes[region, pred_classes]

    keep = batched_nms_rotated(candidates, scores.float(), pred_classes, nms_thresh)
    if topk_per_image >= 0:
        keep = keep[:topk_per_image]
    detections = Instances(
        image_shape,
        pred_boxes=RotatedBoxes(candidates[keep]),
        scores=scores[keep],
        pred_classes=pred_classes[keep],
    )
    return detections, region_index[region[keep]]


class RotatedFastRCNNOutputLayers(FastRCNNOutputLayers):
    """:class:`FastRCNNOutputLayers` for rotated boxes: five deltas per box."""

    @classmethod
    def from_config(cls, cfg: Config, input_shape: ShapeSpec) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.ROI_HEADS`` and ``ROI_BOX_HEAD``."""
        weights = tuple(cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS)
        if len(weights) != 5:
            raise ConfigError(
                f"MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS has {len(weights)} numbers; rotated boxes "
                "need 5, the last one for the angle.",
                key="MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS",
            )
        keywords = super().from_config(cfg, input_shape)
        return {**keywords, "box2box_transform": Box2BoxTransformRotated(weights)}

    def inference(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Detections from what ``forward`` returned; see :func:`fast_rcnn_inference_rotated`."""
        return fast_rcnn_inference_rotated(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [proposals_per_image.image_size for proposals_per_image in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )


@ROI_HEADS_REGISTRY.register()
class RROIHeads(StandardROIHeads):
    """Pools rotated proposals and predicts rotated boxes; masks and keypoints do not exist for them.

    Takes the arguments of :class:`StandardROIHeads` for the box head.
    """

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    @classmethod
    def from_config(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Keywords from the config.

        Raises:
            ConfigError: the config asks for masks, for keypoints or for training on predicted
                boxes, or the pooler is not ROIAlignRotated.
        """
        for key, wanted in (
            ("MODEL.MASK_ON", cfg.MODEL.MASK_ON),
            ("MODEL.KEYPOINT_ON", cfg.MODEL.KEYPOINT_ON),
            ("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES),
        ):
            if wanted:
                raise ConfigError(f"{key} does not go with rotated boxes (RROIHeads).", key=key)
        return super().from_config(cfg, input_shape)

    @classmethod
    def _init_box_head(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        cfg_head = cfg.MODEL.ROI_BOX_HEAD
        if cfg_head.POOLER_TYPE != "ROIAlignRotated":
            raise ConfigError(
                f"MODEL.ROI_BOX_HEAD.POOLER_TYPE is {cfg_head.POOLER_TYPE!r}; RROIHeads need "
                "'ROIAlignRotated'.",
                key="MODEL.ROI_BOX_HEAD.POOLER_TYPE",
            )
        pooler = pooler_from_config(cfg_head, input_shape, in_features)
        box_head: Any = build_box_head(cfg, pooled_shape(cfg_head, input_shape, in_features))
        return {
            "box_in_features": in_features,
            "box_pooler": pooler,
            "box_head": box_head,
            "box_predictor": RotatedFastRCNNOutputLayers(cfg, box_head.output_shape),
        }
