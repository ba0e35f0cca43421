"""Panoptic FPN (Kirillov et al. 2019): instances and stuff in one map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.architectures.base import Inputs, Losses, Outputs, output_sizes
from models.architectures.build import META_ARCH_REGISTRY
from models.architectures.rcnn import GeneralizedRCNN
from models.architectures.semantic_segmentor import semantic_targets
from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.heads import build_sem_seg_head
from models.layers.mask_ops import paste_masks_in_image
from models.postprocessing import rescale_instances, sem_seg_postprocess
from models.structures import Instances
from models.wanted import wanted_of


@META_ARCH_REGISTRY.register()
class PanopticFPN(GeneralizedRCNN):
    """A Mask R-CNN with a semantic head; both are combined into one panoptic map.

    Args:
        sem_seg_head: feature maps -> logits of the padded images; class 0 stands for all things.
        combine_overlap_thresh: an instance is left out if more of it is covered already.
        combine_stuff_area_thresh: stuff of fewer pixels is left out.
        combine_instances_score_thresh: instances below are left out.
        instance_loss_weight: factor of the losses of the RoI heads, not of the proposals'.
        kwargs: as of :class:`GeneralizedRCNN`.
    """

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: nn.Module,
        combine_overlap_thresh: float = 0.5,
        combine_stuff_area_thresh: float = 4096,
        combine_instances_score_thresh: float = 0.5,
        instance_loss_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sem_seg_head = sem_seg_head
        self.combine_overlap_thresh = combine_overlap_thresh
        self.combine_stuff_area_thresh = combine_stuff_area_thresh
        self.combine_instances_score_thresh = combine_instances_score_thresh
        self.instance_loss_weight = instance_loss_weight

    @classmethod
    def from_config(cls, cfg: Config) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL``."""
        if not cfg.MODEL.MASK_ON:
            raise ConfigError("PanopticFPN needs MODEL.MASK_ON.", key="MODEL.MASK_ON")
        keywords = super().from_config(cfg)
        combine = cfg.MODEL.PANOPTIC_FPN.COMBINE
        shapes = keywords["backbone"].output_shape()
        return keywords | {
            "sem_seg_head": build_sem_seg_head(cfg, shapes),
            "combine_overlap_thresh": combine.OVERLAP_THRESH,
            "combine_stuff_area_thresh": combine.STUFF_AREA_LIMIT,
            "combine_instances_score_thresh": combine.INSTANCES_CONFIDENCE_THRESH,
            "instance_loss_weight": cfg.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT,
        }

    def losses(self, batched_inputs: Inputs) -> Losses:
        """See :meth:`DetectionModel.losses`: those of the instances and of the semantic head."""
        images = self.preprocess_image(batched_inputs)
        targets = semantic_targets(batched_inputs, images, self.sem_seg_head)
        features = self.backbone(images.tensor)
        losses = self.region_losses(images, features, batched_inputs)
        for name in losses:
            if not name.startswith("loss_rpn"):
                losses[name] = losses[name] * self.instance_loss_weight
        semantic: Losses
        _, semantic = self.sem_seg_head(features, targets)
        return losses | semantic

    @torch.no_grad()
    def predict(self, batched_inputs: Inputs) -> Outputs:
        """Per image ``instances`` (masks soft), ``sem_seg`` and ``panoptic_seg``.

        If no image wants a map, only instances as of :class:`GeneralizedRCNN`.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        if not any(wanted_of(inputs).segmentation for inputs in batched_inputs):
            return self.answer(images, features, batched_inputs)
        logits, _ = self.sem_seg_head(features)
        results = self.detect(images, features, batched_inputs)
        outputs: Outputs = []
        for inputs, instances, per_image, image_size, size in zip(
            batched_inputs,
            results,
            logits,
            images.image_sizes,
            output_sizes(batched_inputs, images),
            strict=True,
        ):
            rescaled = rescale_instances(instances, *size)
            sem_seg = sem_seg_postprocess(per_image, image_size, *size)
            panoptic = combine_semantic_and_instance_outputs(
                rescaled,
                sem_seg.argmax(dim=0),
                overlap_threshold=self.combine_overlap_thresh,
                stuff_area_thresh=self.combine_stuff_area_thresh,
                instances_score_thresh=self.combine_instances_score_thresh,
            )
            # A thing's segment tells its place among all instances, so none is left out.
            output = {"instances": rescaled, "sem_seg": sem_seg, "panoptic_seg": panoptic}
            if "wanted" in inputs:
                output["found_scores"] = rescaled.scores
            outputs.append(output)
        return outputs


def combine_semantic_and_instance_outputs(
    instances: Instances,
    semantic: Tensor,
    *,
    overlap_threshold: float,
    stuff_area_thresh: float,
    instances_score_thresh: float,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """One segment for every pixel: instances by score, then stuff where no instance lies.

    Args:
        instances: at the resolution of ``semantic``, with soft ``pred_masks`` (R, 1, M, M).
        semantic: (H, W) class of each pixel; 0 stands for all things.
        overlap_threshold, stuff_area_thresh, instances_score_thresh: see :class:`PanopticFPN`.

    Returns:
        (H, W) int32 segment ids, 0 where nothing is, and per segment ``id``, ``isthing``,
        ``category_id``, and ``score`` and ``instance_id`` of a thing, ``area`` of stuff.
    """
    panoptic = torch.zeros_like(semantic, dtype=torch.int32)
    segments: list[dict[str, Any]] = []
    order = torch.argsort(-instances.scores)
    order = order[instances.scores[order] >= instances_score_thresh]
    boxes = instances.pred_boxes.tensor
    for index in order.tolist():
        # One frame at a time: all of them together would not fit for large images.
        frame = paste_masks_in_image(
            instances.pred_masks[index], boxes[index : index + 1], instances.image_size
        )[0]
        area = int(frame.sum())
        if area == 0:
            continue
        covered = int((frame & (panoptic > 0)).sum())
        if covered / area > overlap_threshold:
            continue
        if covered:
            frame &= panoptic == 0
        segment_id = len(segments) + 1
        panoptic[frame] = segment_id
        segments.append(
            {
                "id": segment_id,
                "isthing": True,
                "score": float(instances.scores[index]),
                "category_id": int(instances.pred_classes[index]),
                "instance_id": index,
            }
        )
    for label in torch.unique(semantic).tolist():
        if label == 0:
            continue
        free = (semantic == label) & (panoptic == 0)
        area = int(free.sum())
        if area < stuff_area_thresh:
            continue
        segment_id = len(segments) + 1
        panoptic[free] = segment_id
        segments.append({"id": segment_id, "isthing": False, "category_id": label, "area": area})
    return panoptic, segments
