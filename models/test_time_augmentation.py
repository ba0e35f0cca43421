"""Test-time augmentation: an image in several sizes and mirrored, the answers merged into one.

Boxes of all views go through one NMS, masks are the mean over the views. The model is only called,
never changed. For R-CNNs with boxes and masks this is Detectron2's; for keypoints, RetinaNet and
FCOS, which Detectron2 refuses, it is our own and works alike: heatmaps are averaged like masks,
boxes of a dense detector merged by its own NMS threshold and cap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.architectures.base import DetectionModel
from models.architectures.dense_detector import DenseDetector
from models.architectures.rcnn import GeneralizedRCNN
from models.config import Config
from models.errors import ConfigError
from models.heads.detections import fast_rcnn_inference_single_image
from models.postprocessing import detector_postprocess, rescale_instances
from models.structures import Boxes, Instances
from models.structures.keypoints import heatmaps_to_keypoints
from models.tta_views import DatasetMapperTTA, View
from models.wanted import Wanted, wanted_of

MERGE_SCORE_THRESH = 1e-8
"""The views' boxes have passed the model's own threshold; merging must not drop them again."""


class DetectorWithTTA(nn.Module):
    """A detector that answers like the model it wraps, from several views of each image.

    Args:
        cfg: the model's config.
        model: the model; it is called, not changed.
        tta_mapper: makes the views; default: as ``cfg.TEST.AUG`` says.
        batch_size: views that run together.
        between: called before each batch of views; what it raises ends the prediction.
    """

    def __init__(
        self,
        cfg: Config,
        model: DetectionModel,
        tta_mapper: Callable[[dict[str, Any]], list[dict[str, Any]]] | None = None,
        batch_size: int = 3,
        between: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {batch_size}.")
        self.cfg = cfg
        self.model: Any = model
        self.tta_mapper = tta_mapper or DatasetMapperTTA(cfg)
        self.batch_size = batch_size
        self.between = between

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """As of the model: per image ``{"instances": Instances}``, masks as (R, H, W) frames."""
        return [
            {"instances": detector_postprocess(raw, *raw.image_size)}
            for raw, _ in (self._one_image(inputs) for inputs in batched_inputs)
        ]

    def predict(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """As :meth:`forward`, with soft masks (R, 1, M, M)."""
        outputs = []
        for inputs in batched_inputs:
            raw, found_scores = self._one_image(inputs)
            output: dict[str, Any] = {"instances": rescale_instances(raw, *raw.image_size)}
            if "wanted" in inputs:
                output["found_scores"] = found_scores
            outputs.append(output)
        return outputs

    @torch.no_grad()
    def _one_image(self, inputs: dict[str, Any]) -> tuple[Instances, Tensor]:
        """Instances at the output resolution, masks soft, and the scores of unwanted ones too."""
        views = self.tta_mapper(inputs)
        wanted = wanted_of(inputs)
        if wanted.overrides:
            views = [{**view, "wanted": wanted.overrides_alone} for view in views]
        boxes, scores, classes = [], [], []
        for view, found in zip(views, self._detect_boxes(views), strict=True):
            boxes.append(view["view"].inverse_box(found.pred_boxes.tensor))
            scores.append(found.scores)
            classes.append(found.pred_classes)
        size = views[0]["view"].original_size
        merged = self._merge(torch.cat(boxes), torch.cat(scores), torch.cat(classes), size, wanted)
        # Their boxes are clipped already; an empty one would be dropped behind the choice.
        chosen = merged[wanted.index(merged, merged.pred_boxes.nonempty())]
        return self._complete(views, chosen, wanted), merged.scores

    def _batches(self, views: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        for start in range(0, len(views), self.batch_size):
            if self.between is not None:
                self.between()
            yield views[start : start + self.batch_size]

    def _detect_boxes(self, views: list[dict[str, Any]]) -> list[Instances]:
        """Per view its boxes, in pixels of the view."""
        raise NotImplementedError

    def _complete(
        self, views: list[dict[str, Any]], merged: Instances, wanted: Wanted
    ) -> Instances:
        """``merged`` with the other outputs that are wanted."""
        return merged

    def _merge(
        self,
        boxes: Tensor,
        scores: Tensor,
        classes: Tensor,
        size: tuple[int, int],
        wanted: Wanted,
    ) -> Instances:
        """All views' boxes in one NMS."""
        num_classes, nms_thresh, topk = self._merge_settings()
        nms_thresh, topk = wanted.nms_threshold_or(nms_thresh), wanted.cap_or(topk)
        number = len(boxes)
        table = scores.new_zeros((number, num_classes + 1))
        table[torch.arange(number, device=scores.device), classes] = scores
        merged, _ = fast_rcnn_inference_single_image(
            boxes, table, size, MERGE_SCORE_THRESH, nms_thresh, topk
        )
        return merged

    def _merge_settings(self) -> tuple[int, float, int]:
        """Number of classes, NMS threshold, detections per image."""
        raise NotImplementedError


class DenseDetectorWithTTA(DetectorWithTTA):
    """Test-time augmentation of RetinaNet and FCOS; our own, Detectron2 has none."""

    def _detect_boxes(self, views: list[dict[str, Any]]) -> list[Instances]:
        found: list[Instances] = []
        for batch in self._batches(views):
            # Without height and width the answer is in pixels of the view.
            outputs = self.model.predict(
                [{"image": view["image"], "wanted": wanted_of(view)} for view in batch]
            )
            found += [output["instances"] for output in outputs]
        return found

    def _merge_settings(self) -> tuple[int, float, int]:
        model: DenseDetector = self.model
        return model.num_classes, model.test_nms_thresh, model.max_detections_per_image


class GeneralizedRCNNWithTTA(DetectorWithTTA):
    """Test-time augmentation of an R-CNN; of a panoptic one the instances.

    Args:
        cfg, model, tta_mapper, batch_size, between: see :class:`DetectorWithTTA`.
        keypoint_flip: for each keypoint the one it becomes in the mirror; without it mirrored views
            do not count for keypoints.

    Raises:
        ConfigError: the model is no axis-aligned R-CNN that makes its own proposals.
    """

    def __init__(
        self,
        cfg: Config,
        model: GeneralizedRCNN,
        tta_mapper: Callable[[dict[str, Any]], list[dict[str, Any]]] | None = None,
        batch_size: int = 3,
        keypoint_flip: Sequence[int] | None = None,
        between: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(cfg, model, tta_mapper, batch_size, between)
        if not isinstance(model, GeneralizedRCNN):
            raise ConfigError(
                f"GeneralizedRCNNWithTTA takes a GeneralizedRCNN, not a {type(model).__name__}."
            )
        if model.proposal_generator is None:
            raise ConfigError("Test-time augmentation needs a model that makes its own proposals.")
        self._predictor()  # refuses heads that it does not know
        self.keypoint_flip = list(keypoint_flip) if keypoint_flip is not None else None

    def _predictor(self) -> Any:
        """The last box predictor, which has the thresholds."""
        heads = self.model.roi_heads
        predictor: Any = getattr(heads, "box_predictor", None)
        if isinstance(predictor, nn.ModuleList):
            predictor = predictor[-1]
        if predictor is None or len(predictor.box2box_transform.weights) != 4:
            raise ConfigError(
                f"Test-time augmentation does not know the RoI heads {type(heads).__name__}."
            )
        return predictor

    def _merge_settings(self) -> tuple[int, float, int]:
        predictor = self._predictor()
        return (
            self.model.roi_heads.num_classes,
            predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )

    def _detect_boxes(self, views: list[dict[str, Any]]) -> list[Instances]:
        found: list[Instances] = []
        for batch in self._batches(views):
            images = self.model.preprocess_image(batch)
            features = self.model.backbone(images.tensor)
            proposals = self.model.propose(images, features, batch)
            overrides = self.model.overrides(batch)
            found += self.model.roi_heads.detect_boxes(features, proposals, **overrides)
        return found

    def _complete(
        self, views: list[dict[str, Any]], merged: Instances, wanted: Wanted
    ) -> Instances:
        heads = self.model.roi_heads
        masks_on = wanted.masks and getattr(heads, "mask_on", False)
        keypoints_on = wanted.keypoints and getattr(heads, "keypoint_on", False)
        if not masks_on and not keypoints_on:
            return merged
        masks: list[Tensor] = []
        heatmaps: list[Tensor] = []
        for batch in self._batches(views):
            known = [_in_view(merged, view["view"]) for view in batch]
            images = self.model.preprocess_image(batch)
            features = self.model.backbone(images.tensor)
            if keypoints_on:
                heatmaps += self._heatmaps(features, known, batch)
            if masks_on:
                with_masks = heads.forward_with_given_boxes(features, known)
                for view, instances in zip(batch, with_masks, strict=True):
                    mask = instances.pred_masks
                    masks.append(mask.flip(dims=[3]) if view["view"].flip else mask)
        completed = Instances(merged.image_size, **merged.get_fields())
        if masks_on:
            completed.pred_masks = torch.stack(masks).mean(dim=0)
        if keypoints_on:
            mean = torch.stack(heatmaps).mean(dim=0)
            completed.pred_keypoints = heatmaps_to_keypoints(mean, merged.pred_boxes.tensor)
        return completed

    def _heatmaps(
        self, features: dict[str, Tensor], known: list[Instances], batch: list[dict[str, Any]]
    ) -> list[Tensor]:
        """Per view that counts the heatmaps (R, K, S, S) over the boxes, as in the picture."""
        logits = self.model.roi_heads.keypoint_logits(features, known)
        result = []
        for view, maps in zip(batch, logits.split([len(x) for x in known]), strict=True):
            if not view["view"].flip:
                result.append(maps)
            elif self.keypoint_flip is not None:
                result.append(maps.flip(dims=[3])[:, self.keypoint_flip])
        return result


def _in_view(merged: Instances, view: View) -> Instances:
    """The merged boxes and classes, in pixels of a view."""
    boxes = Boxes(view.apply_box(merged.pred_boxes.tensor))
    return Instances(
        view.size, pred_boxes=boxes, pred_classes=merged.pred_classes, scores=merged.scores
    )


def with_tta(
    cfg: Config,
    model: DetectionModel,
    tta_mapper: Callable[[dict[str, Any]], list[dict[str, Any]]] | None = None,
    keypoint_flip: Sequence[int] | None = None,
    between: Callable[[], None] | None = None,
) -> DetectorWithTTA:
    """``model`` with test-time augmentation.

    Raises:
        ConfigError: there is none for this kind of model.
    """
    if isinstance(model, GeneralizedRCNN):
        return GeneralizedRCNNWithTTA(
            cfg, model, tta_mapper, keypoint_flip=keypoint_flip, between=between
        )
    if isinstance(model, DenseDetector):
        return DenseDetectorWithTTA(cfg, model, tta_mapper, between=between)
    raise ConfigError(f"There is no test-time augmentation for {type(model).__name__}.")
