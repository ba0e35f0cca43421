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


class BaseKeypointRCNNHead(nn.Module):
    """What keypoint heads share; a subclass implements :meth:`layers`.

    Args:
        num_keypoints: K.
        loss_weight: factor of the loss.
        loss_normalizer: a number of images' worth of keypoints, or "visible".
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

    def forward(self, x: Tensor, instances: list[Instances]) -> list[Instances]:
        """Pooled regions (R, C, H, W) of all images -> the same instances with ``pred_keypoints``."""
        keypoint_rcnn_inference(self.layers(x), instances)
        return instances

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
