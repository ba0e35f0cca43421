"""Generalized R-CNN: backbone, proposal generator, per-region heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from models.architectures.base import (
    DetectionModel,
    Inputs,
    Losses,
    Outputs,
    normalization_from_config,
    output_sizes,
)
from models.architectures.build import META_ARCH_REGISTRY
from models.backbones import Backbone, build_backbone
from models.config import Config
from models.configurable import configurable
from models.heads import ROIHeads, build_roi_heads
from models.postprocessing import detector_postprocess, rescale_instances, rescaled_boxes
from models.proposals import build_proposal_generator
from models.structures import ImageList, Instances
from models.transfer import to_device, to_host
from models.wanted import Wanted, takes_wanted, wanted_of


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(DetectionModel):
    """Faster, Mask and Keypoint R-CNN and their relatives.

    Args:
        backbone: image batch -> feature maps.
        proposal_generator: feature maps -> proposals; None if they come with the input, under
            ``proposals`` (Instances with ``proposal_boxes`` in pixels of ``image``).
        roi_heads: feature maps and proposals -> detections.
        pixel_mean, pixel_std, input_format, vis_period: see :class:`DetectionModel`.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        roi_heads: nn.Module,
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
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads

    @classmethod
    def from_config(cls, cfg: Config) -> dict[str, Any]:
        """Keywords from ``cfg.MODEL``."""
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, shapes),
            "roi_heads": build_roi_heads(cfg, shapes),
        } | normalization_from_config(cfg)

    @property
    def takes_overrides(self) -> bool:
        """Whether heads and predictor, which may be somebody's own, take them."""
        heads: Any = self.roi_heads
        predictor: Any = getattr(heads, "box_predictor", None)
        if isinstance(predictor, nn.ModuleList):
            predictor = predictor[-1]
        return (
            type(heads).forward is ROIHeads.forward
            and takes_wanted(heads.detect_boxes)
            and predictor is not None
            and takes_wanted(predictor.inference)
        )

    @torch.no_grad()
    def predict(self, batched_inputs: Inputs) -> Outputs:
        """Per image ``{"instances": Instances}`` at the output resolution, masks soft.

        An input with ``wanted`` (:class:`models.wanted.Wanted`) gets those instances alone, and under
        ``found_scores`` the scores of all. They are on the host, wherever the model runs.

        Raises:
            ValueError: see :meth:`overrides`.
        """
        images = self.preprocess_image(batched_inputs)
        return self.answer(images, self.backbone(images.tensor), batched_inputs)

    def losses(self, batched_inputs: Inputs) -> Losses:
        """See :meth:`DetectionModel.losses`: of the proposal generator and of the heads."""
        images = self.preprocess_image(batched_inputs)
        return self.region_losses(images, self.backbone(images.tensor), batched_inputs)

    def region_losses(
        self, images: ImageList, features: dict[str, Any], batched_inputs: Inputs
    ) -> Losses:
        """What :meth:`losses` gives, from features."""
        truths = self.ground_truth(batched_inputs, getattr(self.roi_heads, "num_classes", None))
        generator = self.proposal_generator
        proposal_losses: Losses = {}
        if generator is None:
            proposals = self.propose(images, features, batched_inputs)
        else:
            proposals, proposal_losses = generator(images, features, truths)
        losses: Losses
        _, losses = self.roi_heads(images, features, proposals, truths)
        self.note_figures(generator, self.roi_heads)
        return losses | proposal_losses

    def answer(
        self, images: ImageList, features: dict[str, Any], batched_inputs: Inputs
    ) -> Outputs:
        """What :meth:`predict` gives, from features; masks and keypoints of what is wanted alone."""
        sizes = output_sizes(batched_inputs, images)
        wanted = [wanted_of(inputs) for inputs in batched_inputs]
        heads: Any = self.roi_heads
        if type(heads).forward is not ROIHeads.forward:
            # Heads of somebody's own run as a whole; what is not wanted is left out afterwards.
            found = to_host(self.detect(images, features, batched_inputs))
            chosen = _choose(found, sizes, wanted)
        else:
            # On the host, where each question to a box does not wait for the device.
            overrides = self.overrides(batched_inputs)
            proposals = self.propose(images, features, batched_inputs)
            found = to_host(heads.detect_boxes(features, proposals, **overrides))
            chosen = _choose(found, sizes, wanted)
            chosen = to_host(_complete(heads, features, chosen, wanted))
        outputs: Outputs = []
        for inputs, instances, size, all_of in zip(
            batched_inputs, chosen, sizes, found, strict=True
        ):
            output: dict[str, Any] = {"instances": rescale_instances(instances, *size)}
            if "wanted" in inputs:
                output["found_scores"] = all_of.scores
            outputs.append(output)
        return outputs

    @torch.no_grad()
    def inference(
        self,
        batched_inputs: Inputs,
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any:
        """Detect in N images, or only complete known boxes.

        Args:
            batched_inputs: see :class:`DetectionModel`.
            detected_instances: per image known ``pred_boxes`` and ``pred_classes``, in pixels of
                ``image``; then no boxes are searched, only the other outputs predicted.
            do_postprocess: rescale to ``height`` and ``width`` and paste the masks.

        Returns:
            With post-processing the same as :meth:`forward`. Without, per image its Instances in
            pixels of ``image``, with soft ``pred_masks`` (R, 1, M, M) over each box.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        if detected_instances is None:
            results = self.detect(images, features, batched_inputs)
        else:
            on_device = [instances.to(self.device) for instances in detected_instances]
            heads: Any = self.roi_heads
            results = heads.forward_with_given_boxes(features, on_device)
        if not do_postprocess:
            return results
        sizes = output_sizes(batched_inputs, images)
        return [
            {"instances": detector_postprocess(instances, *size)}
            for instances, size in zip(results, sizes, strict=True)
        ]

    def detect(
        self, images: ImageList, features: dict[str, Any], batched_inputs: Inputs
    ) -> list[Instances]:
        """Per image its detections with all outputs, in pixels of the resized image."""
        overrides = self.overrides(batched_inputs)
        proposals = self.propose(images, features, batched_inputs)
        results: list[Instances]
        results, _ = self.roi_heads(images, features, proposals, **overrides)
        return results

    def propose(
        self, images: ImageList, features: dict[str, Any], batched_inputs: Inputs
    ) -> list[Instances]:
        """Per image its proposals, from the generator or from the input."""
        if self.proposal_generator is not None:
            proposals: list[Instances]
            proposals, _ = self.proposal_generator(images, features)
            return proposals
        missing = [i for i, inputs in enumerate(batched_inputs) if "proposals" not in inputs]
        if missing:
            raise ValueError(
                "This model takes its proposals from the input, and image "
                f"{missing[0]} has none under 'proposals'."
            )
        return [inputs["proposals"].to(self.device) for inputs in batched_inputs]


def _choose(
    found: Sequence[Instances], sizes: Sequence[tuple[int, int]], wanted: Sequence[Wanted]
) -> list[Instances]:
    """Per image the instances that are wanted and that the output size leaves a box of."""
    chosen = []
    for instances, size, choice in zip(found, sizes, wanted, strict=True):
        boxes = rescaled_boxes(instances.pred_boxes, instances.image_size, size)
        chosen.append(instances[choice.index(instances, boxes.nonempty())])
    return chosen


def _complete(
    heads: Any, features: Mapping[str, Any], chosen: list[Instances], wanted: Sequence[Wanted]
) -> list[Instances]:
    """Masks and keypoints, for the images that want what the heads have of them."""
    masks_on, keypoints_on = getattr(heads, "mask_on", False), getattr(heads, "keypoint_on", False)
    needed = [(w.masks and masks_on) or (w.keypoints and keypoints_on) for w in wanted]
    if not any(needed):
        return chosen
    # The heads know an image by its place, so the others stay in it, empty.
    given = [x if need else x[:0] for x, need in zip(chosen, needed, strict=True)]
    device = next(iter(features.values())).device
    completed = heads.forward_with_given_boxes(features, to_device(given, device))
    return [
        done if need else plain for done, plain, need in zip(completed, chosen, needed, strict=True)
    ]
