"""What RetinaNet and FCOS share: predictions at every cell of a pyramid, no proposals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchvision.ops
from torch import Tensor, nn

from models.architectures.base import DetectionModel, Inputs, Losses, Outputs, output_sizes
from models.backbones import Backbone
from models.box_regression import Box2BoxTransform, Box2BoxTransformLinear
from models.layers.batched_nms import best_per_image
from models.postprocessing import rescale_instances
from models.structures import Boxes, ImageList, Instances
from models.transfer import pays_together, to_host
from models.wanted import EVERYTHING, Wanted, caps, nms_thresholds, takes_wanted

NORMALIZER_MOMENTUM = 0.9
"""How much of the losses' normaliser stays from one training step to the next."""


def permute_to_N_HWA_K(tensor: Tensor, channels: int) -> Tensor:  # noqa: N802  # the field's name
    """(N, A * K, H, W) -> (N, H * W * A, K), the order in which anchors are laid out."""
    number, _, height, width = tensor.shape
    tensor = tensor.view(number, -1, channels, height, width).permute(0, 3, 4, 1, 2)
    return tensor.reshape(number, -1, channels)


class DenseDetector(DetectionModel):
    """Base of the dense detectors.

    The losses of a step are divided by a moving average of the number of positive anchors: the number
    itself jumps from batch to batch when batches are small. Each process of a parallel training has
    its own, as in Detectron2.

    Attributes:
        loss_normalizer: that average; see :meth:`training_state`.

    Args:
        backbone: image batch -> feature maps.
        head: feature maps -> per-level predictions.
        head_in_features: feature maps of the head, by name; default: all.
        pixel_mean, pixel_std, input_format, vis_period: see :class:`DetectionModel`.
    """

    # Set by subclasses.
    anchor_generator: nn.Module
    box2box_transform: Box2BoxTransform | Box2BoxTransformLinear
    num_classes: int
    loss_normalizer: float
    test_score_thresh: float
    test_topk_candidates: int
    test_nms_thresh: float
    max_detections_per_image: int

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str] | None = None,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
    ) -> None:
        super().__init__(
            backbone=backbone,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            input_format=input_format,
            vis_period=vis_period,
        )
        self.head = head
        if head_in_features is None:
            shapes = backbone.output_shape()
            head_in_features = sorted(shapes, key=lambda name: shapes[name].known_stride)
        self.head_in_features = tuple(head_in_features)

    @property
    def takes_overrides(self) -> bool:
        """Whether the methods, of which a subclass may have its own, take them."""
        methods = (self.forward_inference, self.detections, self.inference_single_image)
        return all(takes_wanted(method) for method in methods)

    @torch.no_grad()
    def predict(self, batched_inputs: Inputs) -> Outputs:
        """Per image ``{"instances": Instances}`` at the output resolution.

        Of what is wanted of an input only the overrides count; no instance is left out.

        Raises:
            ValueError: see :meth:`overrides`.
        """
        overrides = self.overrides(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        levels = [features[name] for name in self.head_in_features]
        results = to_host(self.forward_inference(images, levels, self.head(levels), **overrides))
        sizes = output_sizes(batched_inputs, images)
        return [
            {"instances": rescale_instances(instances, *size)}
            for instances, size in zip(results, sizes, strict=True)
        ]

    def losses(self, batched_inputs: Inputs) -> Losses:
        """See :meth:`DetectionModel.losses`."""
        truths = self.ground_truth(batched_inputs, self.num_classes)
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        levels = [features[name] for name in self.head_in_features]
        return self.forward_training(images, levels, self.head(levels), truths)

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Any,
        gt_instances: list[Instances],
    ) -> Losses:
        """The losses of a batch, from what the head predicts and the ground truth of each image."""
        raise NotImplementedError

    def training_state(self) -> dict[str, float]:
        """The moving average that the losses are divided by."""
        return {"loss_normalizer": self.loss_normalizer}

    def load_training_state(self, state: Mapping[str, float]) -> None:
        """See :meth:`DetectionModel.load_training_state`."""
        if set(state) != {"loss_normalizer"}:
            raise ValueError(
                f"A {type(self).__name__} continues from a state of training with one number, "
                f"loss_normalizer; this one has {', '.join(sorted(state)) or 'none'}."
            )
        self.loss_normalizer = float(state["loss_normalizer"])

    def next_normalizer(self, positives: int, num_images: int) -> float:
        """Move the average on by a step with so many positive anchors, and return it."""
        self.training_figures["num_pos_anchors"] = positives / num_images
        self.loss_normalizer = NORMALIZER_MOMENTUM * self.loss_normalizer + (
            1 - NORMALIZER_MOMENTUM
        ) * max(positives, 1)
        return self.loss_normalizer

    def forward_inference(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Any,
        *,
        wanted: Sequence[Wanted] | None = None,
    ) -> list[Instances]:
        """Detections in pixels of the resized images; ``wanted`` as of :meth:`detections`."""
        raise NotImplementedError

    def detections(
        self,
        anchors: Sequence[Boxes],
        scores: Sequence[Tensor],
        deltas: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        wanted: Sequence[Wanted] | None = None,
    ) -> list[Instances]:
        """Detections of N images.

        Args:
            anchors: per level its (Hi * Wi * A) anchors.
            scores: per level (N, Hi * Wi * A, K) in 0 .. 1.
            deltas: per level (N, Hi * Wi * A, 4).
            image_sizes: (height, width) without padding. Boxes are not clipped to it before NMS.
            wanted: per image its overrides; None is without.
        """
        if pays_together(scores[0].device):
            return self.detect_together(anchors, scores, deltas, image_sizes, wanted)
        return [
            self.inference_single_image(
                anchors,
                [level[i] for level in scores],
                [level[i] for level in deltas],
                image_size,
                # A subclass's own need not know of overrides.
                **({} if wanted is None else {"wanted": wanted[i]}),
            )
            for i, image_size in enumerate(image_sizes)
        ]

    def detect_together(
        self,
        anchors: Sequence[Boxes],
        scores: Sequence[Tensor],
        deltas: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        wanted: Sequence[Wanted] | None = None,
    ) -> list[Instances]:
        """:meth:`detections` for all images at once, as a GPU likes it."""
        boxes, top_scores, classes = [], [], []
        for anchor, level_scores, level_deltas in zip(anchors, scores, deltas, strict=True):
            # NaN is above no threshold, but the best of all for topk.
            flat = level_scores.flatten(1)
            flat = flat.where(flat > self.test_score_thresh, -torch.inf)
            top, index = flat.topk(min(flat.shape[1], self.test_topk_candidates), dim=1)
            cell = torch.div(index, self.num_classes, rounding_mode="floor")
            top_deltas = level_deltas.gather(1, cell[:, :, None].expand(-1, -1, 4))
            decoded = self.box2box_transform.apply_deltas(
                top_deltas.flatten(0, 1), anchor.tensor[cell.flatten()]
            )
            boxes.append(decoded.view(*top_deltas.shape))
            top_scores.append(top)
            classes.append(index % self.num_classes)
        all_scores = torch.cat(top_scores, dim=1)
        image, place = all_scores.isfinite().nonzero().unbind(1)
        candidates = torch.cat(boxes, dim=1)[image, place].float()
        found, labels = all_scores[image, place], torch.cat(classes, dim=1)[image, place]
        chosen = best_per_image(
            candidates,
            found.float(),
            labels,
            image,
            num_images=len(image_sizes),
            num_classes=self.num_classes,
            iou_threshold=nms_thresholds(wanted, self.test_nms_thresh),
            most=caps(wanted, self.max_detections_per_image),
        )
        return [
            Instances(
                image_size,
                pred_boxes=Boxes(candidates[index]),
                scores=found[index],
                pred_classes=labels[index],
            )
            for index, image_size in zip(chosen, image_sizes, strict=True)
        ]

    def inference_single_image(
        self,
        anchors: Sequence[Boxes],
        box_cls: Sequence[Tensor],
        box_delta: Sequence[Tensor],
        image_size: tuple[int, int],
        wanted: Wanted = EVERYTHING,
    ) -> Instances:
        """Detections of one image.

        Args:
            anchors: per level its (Hi * Wi * A) anchors.
            box_cls: per level (Hi * Wi * A, K) scores in 0 .. 1.
            box_delta: per level (Hi * Wi * A, 4).
            image_size: (height, width) without padding. Boxes are not clipped to it before NMS.
            wanted: its overrides count.
        """
        boxes, scores, classes = [], [], []
        for anchor, level_scores, deltas in zip(anchors, box_cls, box_delta, strict=True):
            above = level_scores > self.test_score_thresh
            candidates = above.nonzero()
            kept = level_scores[above]
            top, index = kept.topk(min(len(kept), self.test_topk_candidates))
            anchor_index, class_index = candidates[index].unbind(dim=1)
            boxes.append(
                self.box2box_transform.apply_deltas(
                    deltas[anchor_index], anchor.tensor[anchor_index]
                )
            )
            scores.append(top)
            classes.append(class_index)
        all_boxes, all_scores = torch.cat(boxes), torch.cat(scores)
        all_classes = torch.cat(classes)
        nms_threshold = wanted.nms_threshold_or(self.test_nms_thresh)
        keep = torchvision.ops.batched_nms(
            all_boxes.float(), all_scores.float(), all_classes, nms_threshold
        )
        most = wanted.cap_or(self.max_detections_per_image)
        if most >= 0:
            keep = keep[:most]
        return Instances(
            image_size,
            pred_boxes=Boxes(all_boxes[keep]),
            scores=all_scores[keep],
            pred_classes=all_classes[keep],
        )
