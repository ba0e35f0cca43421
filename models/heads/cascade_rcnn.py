"""Cascade R-CNN (Cai & Vasconcelos 2018): each stage refines the boxes of the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.box_regression import Box2BoxTransform
from models.config import Config
from models.configurable import configurable
from models.errors import ConfigError
from models.heads.box_head import build_box_head
from models.heads.detections import fast_rcnn_inference
from models.heads.fast_rcnn import FastRCNNOutputLayers
from models.heads.pooling import pooled_shape, pooler_from_config
from models.heads.proposal_sampling import match_proposals
from models.heads.roi_heads import ROI_HEADS_REGISTRY
from models.heads.standard_roi_heads import StandardROIHeads
from models.layers import ShapeSpec
from models.losses import require_finite
from models.matcher import Matcher
from models.poolers import ROIPooler
from models.structures import Boxes, Instances
from models.wanted import Wanted, caps, nms_thresholds


@ROI_HEADS_REGISTRY.register()
class CascadeROIHeads(StandardROIHeads):
    """:class:`StandardROIHeads` with one box head, predictor and matcher for each stage.

    Args:
        box_in_features, box_pooler: shared by the stages.
        box_heads, box_predictors, proposal_matchers: one for each stage.
    """

    @configurable
    def __init__(
        self,
        *,
        box_in_features: Sequence[str],
        box_pooler: ROIPooler,
        box_heads: Sequence[nn.Module],
        box_predictors: Sequence[nn.Module],
        proposal_matchers: Sequence[Matcher],
        **kwargs: Any,
    ) -> None:
        self.num_cascade_stages = len(box_heads)
        if not len(box_predictors) == len(proposal_matchers) == len(box_heads):
            raise ValueError("A cascade needs as many box heads as predictors and matchers.")
        kwargs.pop("proposal_matcher", None)  # each stage has its own
        super().__init__(
            box_in_features=box_in_features,
            box_pooler=box_pooler,
            box_head=nn.ModuleList(box_heads),
            box_predictor=nn.ModuleList(box_predictors),
            proposal_matcher=proposal_matchers[0],
            **kwargs,
        )
        self.proposal_matchers = list(proposal_matchers)

    @classmethod
    def _init_box_head(cls, cfg: Config, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        cfg_head, cascade = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_BOX_CASCADE_HEAD
        if not cfg_head.CLS_AGNOSTIC_BBOX_REG:
            raise ConfigError(
                "A cascade regresses one box for all classes: set "
                "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG to true.",
                key="MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG",
            )
        if len(cascade.IOUS) != len(cascade.BBOX_REG_WEIGHTS):
            raise ConfigError(
                "MODEL.ROI_BOX_CASCADE_HEAD has "
                f"{len(cascade.IOUS)} IOUS and {len(cascade.BBOX_REG_WEIGHTS)} BBOX_REG_WEIGHTS; "
                "each stage needs one of both.",
                key="MODEL.ROI_BOX_CASCADE_HEAD.IOUS",
            )
        shape = pooled_shape(cfg_head, input_shape, in_features)
        heads: list[Any] = [build_box_head(cfg, shape) for _ in cascade.IOUS]
        return {
            "box_in_features": in_features,
            "box_pooler": pooler_from_config(cfg_head, input_shape, in_features),
            "box_heads": heads,
            "box_predictors": [
                FastRCNNOutputLayers(
                    cfg, head.output_shape, box2box_transform=Box2BoxTransform(tuple(weights))
                )
                for head, weights in zip(heads, cascade.BBOX_REG_WEIGHTS, strict=True)
            ],
            "proposal_matchers": [Matcher([iou], [0, 1]) for iou in cascade.IOUS],
        }

    def detect_boxes(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Instances],
        wanted: Sequence[Wanted] | None = None,
    ) -> list[Instances]:
        """Scores are the mean over the stages, each on its own boxes; boxes are the last stage's."""
        levels = [features[name] for name in self.box_in_features]
        image_sizes = [p.image_size for p in proposals]
        scores_per_stage: list[list[Tensor]] = []
        boxes: list[Tensor] = []
        heads: Any = self.box_head
        stages = zip(heads, self.box_predictor, strict=True)
        for stage, (head, predictor) in enumerate(stages):
            if stage > 0:
                # Empty boxes stay: the scores of the stages belong together row by row.
                proposals = _as_proposals(boxes, image_sizes)
            pooled = self.box_pooler(levels, [p.proposal_boxes for p in proposals])
            predictions = predictor(head(pooled))
            boxes = predictor.predict_boxes(predictions, proposals)
            scores_per_stage.append(predictor.predict_probs(predictions, proposals))
        scores = [
            torch.stack(per_image).sum(dim=0) * (1.0 / self.num_cascade_stages)
            for per_image in zip(*scores_per_stage, strict=True)
        ]
        last = self.box_predictor[-1]
        instances, _ = fast_rcnn_inference(
            boxes,
            scores,
            image_sizes,
            last.test_score_thresh,
            nms_thresholds(wanted, last.test_nms_thresh),
            caps(wanted, last.test_topk_per_image),
        )
        return instances

    def box_losses(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances],
    ) -> dict[str, Tensor]:
        """The losses of each stage by name (``loss_cls_stage0``); see :class:`StandardROIHeads`.

        A stage learns from the boxes of the one before, which are matched anew, with its own matcher.
        All stages together pull at the feature maps as one head would.
        """
        levels = [features[name] for name in self.box_in_features]
        losses: dict[str, Tensor] = {}
        heads: Any = self.box_head
        predictions: tuple[Tensor, Tensor] | None = None
        for stage, (head, predictor) in enumerate(zip(heads, self.box_predictor, strict=True)):
            if predictions is not None:
                proposals = self._refined(predictions, proposals, targets, stage)
            pooled = self.pool_for_training(levels, proposals)
            if pooled.requires_grad:
                pooled.register_hook(self._share_of_gradient)  # type: ignore[no-untyped-call]  # torch's own
            predictions = predictor(head(pooled))
            of_stage = predictor.losses(predictions, proposals)
            losses |= {f"{name}_stage{stage}": loss for name, loss in of_stage.items()}
            figures = getattr(predictor, "training_figures", {})
            self.training_figures |= {f"stage{stage}/{name}": x for name, x in figures.items()}
        return losses

    def _share_of_gradient(self, gradient: Tensor) -> Tensor:
        return gradient / self.num_cascade_stages

    @torch.no_grad()
    def _refined(
        self,
        predictions: tuple[Tensor, Tensor],
        proposals: Sequence[Instances],
        targets: Sequence[Instances],
        stage: int,
    ) -> list[Instances]:
        """What the stage before made of its proposals, without empty boxes, labelled for ``stage``."""
        require_finite("A stage of the cascade", *predictions)
        boxes = self.box_predictor[stage - 1].predict_boxes(predictions, proposals)
        labelled = []
        for refined, truth in zip(
            _as_proposals(boxes, [p.image_size for p in proposals]), targets, strict=True
        ):
            found = refined[refined.proposal_boxes.nonempty().nonzero().flatten()]
            matches, found.gt_classes = match_proposals(
                found, truth, self.proposal_matchers[stage], self.num_classes
            )
            if len(truth) > 0:
                found.gt_boxes = truth.gt_boxes[matches]
            labelled.append(found)
        return labelled


def _as_proposals(boxes: list[Tensor], image_sizes: list[tuple[int, int]]) -> list[Instances]:
    """The boxes of a stage, clipped, as proposals of the next."""
    proposals = []
    for tensor, image_size in zip(boxes, image_sizes, strict=True):
        clipped = Boxes(tensor.detach())
        clipped.clip(image_size)
        proposals.append(Instances(image_size, proposal_boxes=clipped))
    return proposals
