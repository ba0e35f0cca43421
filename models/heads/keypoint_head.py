"""Keypoints of regions (He et al. 2017, Mask R-CNN, §5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import Config
from models.configurable import configurable
from models.layers import Conv2d, ShapeSpec
from models.losses import at_least_float32
from models.registry import Registry
from models.structures import Instances
from models.structures.keypoints import heatmaps_to_keypoints

ROI_KEYPOINT_HEAD_REGISTRY = Registry("ROI_KEYPOINT_HEAD", key="MODEL.ROI_KEYPOINT_HEAD.NAME")
"""Called as ``obj(cfg, input_shape)``; returns a module like :class:`BaseKeypointRCNNHead`."""


def keypoint_rcnn_inference(
    pred_keypoint_logits: Tensor, pred_instances: Sequence[Instances]
) -> None:
    """Give each instance ``pred_keypoints`` (Ri, K, 3): x, y in pixels and a score.

    Args:
        pred_keypoint_logits: (R, K, S, S) for the instances of all images in order.
        pred_instances: per image its detections, with ``pred_boxes``; changed in place.
    """
    boxes = torch.cat([instances.pred_boxes.tensor for instances in pred_instances], dim=0)
    keypoints = heatmaps_to_keypoints(pred_keypoint_logits.detach().float(), boxes.detach())
    parts = torch.split(keypoints, [len(instances) for instances in pred_instances])
    for part, instances in zip(parts, pred_instances, strict=True):
        instances.pred_keypoints = part


def keypoint_rcnn_loss(
    pred_keypoint_logits: Tensor, instances: Sequence[Instances], normalizer: float | None
) -> Tensor:
    """The cross entropy over the cells of each keypoint's heatmap, for keypoints that are labelled.

    Args:
        pred_keypoint_logits: (R, K, S, S) for the proposals of all images in order.
        instances: per image its foreground proposals, with ``proposal_boxes`` and ``gt_keypoints``.
        normalizer: what the sum over keypoints is divided by; None is their number.

    Returns:
        A scalar; without keypoints a zero that is connected to the logits.

    Raises:
        ValueError: proposals of an image have no keypoints, or not as many as the head predicts.
    """
    num_keypoints, side = pred_keypoint_logits.shape[1:3]
    targets, valid = [], []
    for found in instances:
        if len(found) == 0:  # an image without objects has no keypoints either
            continue
        _check_keypoints(found, num_keypoints)
        cells, known = found.gt_keypoints.to_heatmap(found.proposal_boxes.tensor, side)
        targets.append(cells.flatten())
        valid.append(known.flatten())
    chosen = torch.cat(valid).nonzero().flatten() if valid else torch.empty(0)
    if len(chosen) == 0:
        return pred_keypoint_logits.sum() * 0
    logits = at_least_float32(pred_keypoint_logits.flatten(2).flatten(0, 1)[chosen])
    loss = F.cross_entropy(logits, torch.cat(targets)[chosen], reduction="sum")
    return loss / (len(chosen) if normalizer is None else normalizer)


def _check_keypoints(found: Instances, number: int) -> None:
    if not found.has("gt_keypoints"):
        raise ValueError(
            "The keypoint head learns from keypoints, and the ground truth has none under "
            "'gt_keypoints'. Annotate keypoints, or set MODEL.KEYPOINT_ON to false."
        )
    given = found.gt_keypoints.tensor.shape[1]
    if given != number:
        raise ValueError(
            f"The ground truth has {given} keypoints for each object and the model {number}: set "
            f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS to {given}."
        )


class BaseKeypointRCNNHead(nn.Module):
    """What keypoint heads share; a subclass implements :meth:`layers`.

    Args:
        num_keypoints: K.
        loss_weight: factor of the loss.
        loss_normalizer: what the loss of an image is divided by; "visible" divides by the number of
            labelled keypoints in all images instead.
    """

    @configurable
    def __init__(
        self,
        *,
        num_keypoints: int,
        loss_weight: float = 1.0,
        loss_normalizer: float | str = 1.0,
    ) -> None:
        super().__init__()
        self.num_keypoints = num_keypoints
        self.loss_weight = loss_weight
        self.loss_normalizer = loss_normalizer

    @classmethod
    def from_config(cls, cfg: Config, input_shape: ShapeSpec) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.ROI_KEYPOINT_HEAD``."""
        head, heads = cfg.MODEL.ROI_KEYPOINT_HEAD, cfg.MODEL.ROI_HEADS
        expected = head.NUM_KEYPOINTS * heads.BATCH_SIZE_PER_IMAGE * heads.POSITIVE_FRACTION
        return {
            "num_keypoints": head.NUM_KEYPOINTS,
            "loss_weight": head.LOSS_WEIGHT,
            "loss_normalizer": (
                "visible" if head.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS else expected
            ),
        }

    def forward(self, x: Tensor, instances: list[Instances]) -> list[Instances] | dict[str, Tensor]:
        """Pooled regions (R, C, H, W) of all images -> the same instances with ``pred_keypoints``.

        In training the regions are of foreground proposals, and the answer is the loss,
        ``loss_keypoint``: see :func:`keypoint_rcnn_loss`.
        """
        logits = self.layers(x)
        if not self.training:
            keypoint_rcnn_inference(logits, instances)
            return instances
        normalizer = None
        if self.loss_normalizer != "visible":
            normalizer = len(instances) * float(self.loss_normalizer)
        loss = keypoint_rcnn_loss(logits, instances, normalizer)
        return {"loss_keypoint": loss * self.loss_weight}

    def layers(self, x: Tensor) -> Tensor:
        """(R, C, H, W) -> keypoint logits (R, K, S, S)."""
        raise NotImplementedError


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class KRCNNConvDeconvUpsampleHead(BaseKeypointRCNNHead):
    """Several 3x3 convolutions, a deconvolution, a bilinear upsampling: four times the resolution.

    Args:
        input_shape: of the pooled regions.
        num_keypoints: K.
        conv_dims: channels of the convolutions ``conv_fcn1``, ``conv_fcn2``, ...
    """

    up_scale = 2

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_keypoints: int,
        conv_dims: Sequence[int],
        loss_weight: float = 1.0,
        loss_normalizer: float | str = 1.0,
    ) -> None:
        super().__init__(
            num_keypoints=num_keypoints, loss_weight=loss_weight, loss_normalizer=loss_normalizer
        )
        channels = input_shape.known_channels
        self._num_convs = len(conv_dims)
        for i, dim in enumerate(conv_dims, start=1):
            self.add_module(f"conv_fcn{i}", Conv2d(channels, dim, 3, stride=1, padding=1))
            channels = dim
        self.score_lowres = nn.ConvTranspose2d(channels, num_keypoints, 4, stride=2, padding=1)
        for name, parameter in self.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
            else:  # Caffe2's MSRAFill
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    @classmethod
    def from_config(cls, cfg: Config, input_shape: ShapeSpec) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.ROI_KEYPOINT_HEAD``."""
        return super().from_config(cfg, input_shape) | {
            "input_shape": input_shape,
            "conv_dims": cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS,
        }

    def layers(self, x: Tensor) -> Tensor:
        """(R, C, H, W) -> keypoint logits (R, K, 4 H, 4 W)."""
        for i in range(1, self._num_convs + 1):
            x = F.relu_(getattr(self, f"conv_fcn{i}")(x))
        x = self.score_lowres(x)
        return F.interpolate(x, scale_factor=self.up_scale, mode="bilinear", align_corners=False)


def build_keypoint_head(cfg: Config, input_shape: ShapeSpec) -> nn.Module:
    """The head ``cfg.MODEL.ROI_KEYPOINT_HEAD.NAME``."""
    name: str = cfg.MODEL.ROI_KEYPOINT_HEAD.NAME
    head: nn.Module = ROI_KEYPOINT_HEAD_REGISTRY.get(name)(cfg, input_shape)
    return head
