"""Class scores and boxes of regions (Girshick 2015, Fast R-CNN).

Shapes: N images; Ri regions of image i, R of all; K foreground classes; B numbers per box, 4
or, rotated, 5. ``pred_class_logits`` (R, K + 1), the background is the last column; ``pred_proposal_deltas``
(R, K * B), or (R, B) when box regression is class-agnostic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.box_regression import Box2BoxTransform
from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError, ModelError
from models.heads.detections import fast_rcnn_inference
from models.heads.fast_rcnn_losses import (
    classification_figures,
    federated_classes,
    sigmoid_loss,
    softmax_loss,
)
from models.layers import ShapeSpec
from models.losses import box_regression_loss
from models.structures import Instances
from models.wanted import Wanted, caps, nms_thresholds


class FastRCNNOutputLayers(nn.Module):
    """Two linear layers: class scores (``cls_score``) and box deltas (``bbox_pred``).

    Args:
        input_shape: of one region's features.
        box2box_transform: turns proposals and deltas into boxes.
        num_classes: foreground classes, K.
        test_score_thresh, test_nms_thresh, test_topk_per_image: see :func:`fast_rcnn_inference`.
        cls_agnostic_bbox_reg: one box per region instead of one for each class.
        smooth_l1_beta, box_reg_loss_type: see :func:`models.losses.box_regression_loss`.
        loss_weight: one factor, or one for each of ``loss_cls`` and ``loss_box_reg``.
        use_sigmoid_ce: a sigmoid for each class instead of a softmax over all.
        use_fed_loss: of a data set that does not name all that is there, see
            :func:`models.heads.fast_rcnn_losses.federated_classes`; with ``use_sigmoid_ce`` only.
        fed_loss_num_classes: how many classes a step learns then.
        get_fed_loss_cls_weights: gives how likely each class is drawn, (K,); None waits for
            :func:`set_class_image_counts`.
        fed_loss_freq_weight_power: what that takes a class's number of pictures to the power of.

    Attributes:
        training_figures: of the last training step; see :func:`classification_figures`.

    Raises:
        ConfigError: a federated loss without ``use_sigmoid_ce``.
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
        fed_loss_freq_weight_power: float = 0.5,
    ) -> None:
        super().__init__()
        if use_fed_loss and not use_sigmoid_ce:
            raise ConfigError(
                "The federated loss judges each class by itself: MODEL.ROI_BOX_HEAD.USE_FED_LOSS "
                "needs MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE to be true as well.",
                key="MODEL.ROI_BOX_HEAD.USE_FED_LOSS",
            )
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
        self.fed_loss_num_classes = fed_loss_num_classes
        self.fed_loss_freq_weight_power = fed_loss_freq_weight_power
        self.fed_loss_cls_weights: Tensor | None
        # Not persistent: they belong to the data, not to the model.
        self.register_buffer("fed_loss_cls_weights", None, persistent=False)
        if use_fed_loss and get_fed_loss_cls_weights is not None:
            self.fed_loss_cls_weights = self._checked_weights(get_fed_loss_cls_weights())
        self.training_figures: dict[str, float | Tensor] = {}

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
            "fed_loss_freq_weight_power": box_head.FED_LOSS_FREQ_WEIGHT_POWER,
        }

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, ...) features -> class logits (R, K + 1) and deltas (R, K * B) or (R, B).

        Raises:
            ModelError: somebody's ``cls_score`` gives no K + 1 logits, so the last class would be taken for
                the background.
        """
        if x.dim() > 2:
            x = torch.flatten(x, start_dim=1)
        logits: Tensor = self.cls_score(x)
        if logits.shape[1] != self.num_classes + 1:
            raise ModelError(
                f"cls_score gives {logits.shape[1]} scores, but {self.num_classes} classes and the "
                f"background, which comes last, need {self.num_classes + 1}. Let replace_predictor(model, "
                "num_classes) make the last layers: it changes all of them together."
            )
        return logits, self.bbox_pred(x)

    def losses(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_box_reg`` of what :meth:`forward` returned.

        The box loss is the sum over the foreground, of the boxes of its own classes, divided by R:
        so a region counts alike in both losses, whatever it is.

        Args:
            predictions: of the regions of all images.
            proposals: per image the regions: ``proposal_boxes``, ``gt_classes``, and ``gt_boxes`` if
                the image has objects.

        Raises:
            ConfigError: the box loss is unknown, or a federated loss has no weights.
        """
        logits, deltas = predictions
        gt_classes = torch.cat([p.gt_classes for p in proposals])
        foreground = ((gt_classes >= 0) & (gt_classes < self.num_classes)).nonzero().flatten()
        self.training_figures = classification_figures(logits, gt_classes, foreground)
        box_dim = len(self.box2box_transform.weights)
        if self.cls_agnostic_bbox_reg:
            chosen = deltas[foreground]
        else:
            per_class = deltas.view(len(deltas), self.num_classes, box_dim)
            chosen = per_class[foreground, gt_classes[foreground]]
        # An image without objects has no gt_boxes; nor has it a foreground that would need them.
        gt_boxes = [p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes for p in proposals]
        box_loss = box_regression_loss(
            self.box_reg_loss_type,
            self.box2box_transform,
            chosen,
            torch.cat([p.proposal_boxes.tensor for p in proposals])[foreground],
            torch.cat([boxes.tensor for boxes in gt_boxes])[foreground],
            smooth_l1_beta=self.smooth_l1_beta,
        )
        losses = {
            "loss_cls": self._class_loss(logits, gt_classes),
            "loss_box_reg": box_loss / max(len(gt_classes), 1),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def _class_loss(self, logits: Tensor, gt_classes: Tensor) -> Tensor:
        if not self.use_sigmoid_ce:
            return softmax_loss(logits, gt_classes)
        if not self.use_fed_loss:
            return sigmoid_loss(logits, gt_classes)
        if self.fed_loss_cls_weights is None:
            raise ConfigError(
                "The federated loss (MODEL.ROI_BOX_HEAD.USE_FED_LOSS) needs to know how common each "
                "class is: call set_class_image_counts(model, counts) before training.",
                key="MODEL.ROI_BOX_HEAD.USE_FED_LOSS",
            )
        classes = federated_classes(
            gt_classes, self.fed_loss_num_classes, self.fed_loss_cls_weights
        )
        return sigmoid_loss(logits, gt_classes, classes)

    def set_fed_loss_weights(self, counts: Tensor) -> None:
        """Take (K,) numbers of pictures; see :func:`set_class_image_counts`."""
        counts = self._checked_weights(counts).to(self.cls_score.weight.device)
        # A power of 0 makes all classes alike, but one without pictures stays out.
        weights = counts**self.fed_loss_freq_weight_power
        self.fed_loss_cls_weights = weights.masked_fill(counts == 0, 0.0)

    def _checked_weights(self, weights: Tensor) -> Tensor:
        if weights.shape != (self.num_classes,) or bool((weights < 0).any()):
            raise ValueError(
                f"A federated loss over {self.num_classes} classes needs as many numbers, none of "
                f"them negative; it got {weights.numel()}."
            )
        return weights.to(torch.float32)

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

    def predict_boxes_for_gt_classes(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> list[Tensor]:
        """Per image (Ri, B): of :meth:`predict_boxes` those of ``gt_classes``, any of the background."""
        boxes = self.predict_boxes(predictions, proposals)
        box_dim = len(self.box2box_transform.weights)
        chosen = []
        for per_image, found in zip(boxes, proposals, strict=True):
            per_class = per_image.view(len(found), -1, box_dim) if len(found) else per_image
            if len(found) and per_class.shape[1] > 1:
                classes = found.gt_classes.clamp(0, self.num_classes - 1)
                per_class = per_class[torch.arange(len(found), device=classes.device), classes]
            chosen.append(per_class.reshape(-1, box_dim))
        return chosen

    def predict_probs(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> list[Tensor]:
        """Per image (Ri, K + 1) probabilities."""
        logits, _ = predictions
        probs = logits.sigmoid() if self.use_sigmoid_ce else F.softmax(logits, dim=-1)
        return list(torch.split(probs, [len(p) for p in proposals]))


def set_class_image_counts(model: nn.Module, counts: Sequence[int]) -> int:
    """Tell every predictor of ``model`` with a federated loss in how many pictures each class occurs.

    Other classes are drawn to learn from with a chance in proportion to the number of their pictures
    to the power of ``MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER``; a class without pictures never.
    The numbers are not in checkpoints: call this before each training.

    Args:
        model: any; without ``MODEL.ROI_BOX_HEAD.USE_FED_LOSS`` nothing happens.
        counts: one number for each class, in the model's order.

    Returns:
        How many predictors took the numbers.

    Raises:
        ValueError: there are more or fewer numbers than classes, or a negative one.
    """
    predictors = [
        part
        for part in model.modules()
        if isinstance(part, FastRCNNOutputLayers) and part.use_fed_loss
    ]
    numbers = torch.tensor(list(counts), dtype=torch.float32)
    for predictor in predictors:
        predictor.set_fed_loss_weights(numbers)
    return len(predictors)
