"""Soft masks of regions (He et al. 2017, Mask R-CNN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.layers import Conv2d, ShapeSpec, get_norm
from models.layers.weight_init import c2_msra_fill
from models.losses import at_least_float32
from models.registry import Registry
from models.structures import Instances

ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD", key="MODEL.ROI_MASK_HEAD.NAME")
"""Called as ``obj(cfg, input_shape)``; returns a module like :class:`BaseMaskRCNNHead`."""


def mask_rcnn_inference(pred_mask_logits: Tensor, pred_instances: Sequence[Instances]) -> None:
    """Give each instance the soft mask of its class, as ``pred_masks`` (Ri, 1, M, M) in 0 .. 1.

    Args:
        pred_mask_logits: (R, K, M, M), or (R, 1, M, M) when class-agnostic, for the instances of all
            images in order.
        pred_instances: per image its detections, with ``pred_classes``; changed in place.
    """
    logits = _of_class(pred_mask_logits.float(), pred_instances, "pred_classes")
    probabilities = logits.sigmoid()
    parts = torch.split(probabilities, [len(instances) for instances in pred_instances])
    for masks, instances in zip(parts, pred_instances, strict=True):
        instances.pred_masks = masks


def _of_class(logits: Tensor, instances: Sequence[Instances], field: str) -> Tensor:
    """(R, K or 1, M, M) -> (R, 1, M, M): of each region the mask of its class."""
    if logits.shape[1] == 1:
        return logits
    classes = torch.cat([found.get(field) for found in instances])
    index = torch.arange(len(classes), device=classes.device)
    return logits[index, classes][:, None]


def mask_targets(instances: Sequence[Instances], mask_size: int, device: torch.device) -> Tensor:
    """The masks that proposals should get, (R, M, M) bool on ``device``, of all images in order.

    Args:
        instances: per image its foreground proposals, with ``proposal_boxes`` and ``gt_masks``; one
            at least.
        mask_size: M.

    Raises:
        ValueError: proposals of an image have no masks.
    """
    targets = []
    for found in instances:
        if len(found) == 0:  # an image without objects has no masks either
            continue
        if not found.has("gt_masks"):
            raise ValueError(
                "The mask head learns from masks, and the ground truth has none under 'gt_masks'. "
                "Annotate segmentations, or set MODEL.MASK_ON to false."
            )
        targets.append(found.gt_masks.crop_and_resize(found.proposal_boxes.tensor, mask_size))
    return torch.cat([target.to(device, non_blocking=True) for target in targets])


def _figures(predicted: Tensor, targets: Tensor) -> dict[str, float | Tensor]:
    """Of two bool tensors of one shape, see ``BaseMaskRCNNHead.training_figures``."""
    wrong = predicted != targets
    foreground = targets.sum()
    missed = (wrong & targets).sum()
    errors = wrong.sum()
    return {
        "mask_rcnn/accuracy": 1 - errors / targets.numel(),
        "mask_rcnn/false_positive": (errors - missed) / (targets.numel() - foreground).clamp(min=1),
        "mask_rcnn/false_negative": missed / foreground.clamp(min=1),
    }


class BaseMaskRCNNHead(nn.Module):
    """What mask heads share; a subclass implements :meth:`layers`.

    Args:
        loss_weight: factor of the loss.
        vis_period: kept for compatibility.

    Attributes:
        training_figures: of the last training step, ``mask_rcnn/accuracy``, the part of all pixels that
            were right, and ``mask_rcnn/false_positive`` and ``mask_rcnn/false_negative``, the parts of
            the background and of the foreground that were not; none where nothing was learnt.
    """

    @configurable
    def __init__(self, *, loss_weight: float = 1.0, vis_period: int = 0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.vis_period = vis_period
        self.training_figures: dict[str, float | Tensor] = {}

    @classmethod
    def from_config(cls, cfg: Config, input_shape: ShapeSpec) -> dict[str, Any]:
        """Keywords from the config."""
        return {"vis_period": cfg.VIS_PERIOD}

    def forward(self, x: Tensor, instances: list[Instances]) -> list[Instances] | dict[str, Tensor]:
        """Pooled regions (R, C, H, W) of all images -> the same instances with ``pred_masks``.

        In training the regions are of foreground proposals, and the answer is what :meth:`losses`
        gives.
        """
        return self.answer(self.layers(x), instances)

    def answer(
        self, logits: Tensor, instances: list[Instances]
    ) -> list[Instances] | dict[str, Tensor]:
        """What :meth:`forward` gives, from mask logits (R, K or 1, M, M)."""
        if self.training:
            return self.losses(logits, instances)
        mask_rcnn_inference(logits, instances)
        return instances

    def losses(self, logits: Tensor, instances: Sequence[Instances]) -> dict[str, Tensor]:
        """``loss_mask``: the mean binary cross entropy over all pixels of the masks of their classes.

        Args:
            logits: (R, K, M, M), or (R, 1, M, M) where there is one for all classes or that of the
                class is chosen already, for the proposals of all images in order.
            instances: per image its foreground proposals, with ``proposal_boxes``, ``gt_classes`` and
                ``gt_masks``.

        Returns:
            The loss times its weight; without proposals a zero that is connected to the logits.
        """
        self.training_figures = {}
        if len(logits) == 0:
            return {"loss_mask": logits.sum() * 0}
        logits = at_least_float32(_of_class(logits, instances, "gt_classes"))[:, 0]
        targets = mask_targets(instances, logits.shape[-1], logits.device)
        self.training_figures = _figures(logits.detach() > 0, targets)
        loss = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))
        return {"loss_mask": loss * self.loss_weight}

    def layers(self, x: Tensor) -> Tensor:
        """(R, C, H, W) -> mask logits (R, K or 1, M, M)."""
        raise NotImplementedError


@ROI_MASK_HEAD_REGISTRY.register()
class MaskRCNNConvUpsampleHead(BaseMaskRCNNHead):
    """Several 3x3 convolutions, a deconvolution that doubles the size, a 1x1 predictor.

    Args:
        input_shape: of the pooled regions.
        num_classes: foreground classes, K; 1 is class-agnostic.
        conv_dims: channels of the convolutions ``mask_fcn1``, ...; the last number is the
            deconvolution's.
        conv_norm: norm of the convolutions; they have a bias only without one.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: Sequence[int],
        conv_norm: str = "",
        loss_weight: float = 1.0,
        vis_period: int = 0,
    ) -> None:
        super().__init__(loss_weight=loss_weight, vis_period=vis_period)
        if not conv_dims:
            raise ConfigError(
                "The mask head needs at least the channels of its deconvolution.",
                key="MODEL.ROI_MASK_HEAD.CONV_DIM",
            )
        channels = input_shape.known_channels
        convs: list[nn.Module] = []
        for i, dim in enumerate(conv_dims[:-1], start=1):
            conv = Conv2d(
                channels,
                dim,
                kernel_size=3,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, dim),
                activation=F.relu_,
            )
            c2_msra_fill(conv)
            self.add_module(f"mask_fcn{i}", conv)
            convs.append(conv)
            channels = dim
        self._num_convs = len(convs)
        self.deconv = nn.ConvTranspose2d(channels, conv_dims[-1], kernel_size=2, stride=2)
        nn.init.kaiming_normal_(self.deconv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.deconv.bias)  # type: ignore[arg-type]  # it has one
        self.predictor = nn.Conv2d(conv_dims[-1], num_classes, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)  # type: ignore[arg-type]  # it has one

    @classmethod
    def from_config(cls, cfg: Config, input_shape: ShapeSpec) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL.ROI_MASK_HEAD``."""
        head = cfg.MODEL.ROI_MASK_HEAD
        return super().from_config(cfg, input_shape) | {
            "input_shape": input_shape,
            "num_classes": 1 if head.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "conv_dims": [head.CONV_DIM] * (head.NUM_CONV + 1),
            "conv_norm": head.NORM,
        }

    def forward(self, x: Tensor, instances: list[Instances]) -> list[Instances] | dict[str, Tensor]:
        """See :meth:`BaseMaskRCNNHead.forward`; computes the mask of each instance's class alone."""
        if (
            self.predictor.out_channels == 1
            or type(self).layers is not MaskRCNNConvUpsampleHead.layers
        ):
            # One class, or a subclass with layers of its own.
            return super().forward(x, instances)
        hidden = self.upsampled(x)
        field = "gt_classes" if self.training else "pred_classes"
        classes = torch.cat([found.get(field) for found in instances])
        rows = self.predictor.weight[classes].flatten(1)[:, :, None]
        # (R, H * W, C) @ (R, C, 1): of K masks only one is looked at, so only one is computed.
        logits = hidden.flatten(2).transpose(1, 2) @ rows
        bias: Any = self.predictor.bias
        logits = logits.reshape(-1, 1, *hidden.shape[2:]) + bias[classes].view(-1, 1, 1, 1)
        return self.answer(logits, instances)

    def layers(self, x: Tensor) -> Tensor:
        """(R, C, H, W) -> mask logits (R, K or 1, 2 H, 2 W)."""
        logits: Tensor = self.predictor(self.upsampled(x))
        return logits

    def upsampled(self, x: Tensor) -> Tensor:
        """(R, C, H, W) -> what the predictor takes, (R, C', 2 H, 2 W)."""
        for i in range(1, self._num_convs + 1):
            x = getattr(self, f"mask_fcn{i}")(x)
        return F.relu_(self.deconv(x))


def build_mask_head(cfg: Config, input_shape: ShapeSpec) -> nn.Module:
    """The head ``cfg.MODEL.ROI_MASK_HEAD.NAME``."""
    head: nn.Module = ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)(cfg, input_shape)
    return head
