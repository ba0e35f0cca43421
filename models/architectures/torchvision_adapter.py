"""torchvision's own detectors behind the interface of ours.

Their numerics are torchvision's: its resize, its anchors, its order of filters (which differ from
Detectron2's). Only the last step is ours: soft masks are pasted as all masks here are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from models.architectures.base import Inputs, Outputs
from models.architectures.build import META_ARCH_REGISTRY
from models.architectures.torchvision_overrides import (
    override_in_dense_detector_,
    override_in_roi_heads_,
)
from models.architectures.torchvision_transform import KeepSoftMasks, TorchvisionPreprocessing
from models.checkpoints.loading import LoadReport, load_checkpoint
from models.checkpoints.reading import read_checkpoint
from models.checkpoints.torchvision_files import TorchvisionArchitecture, detect_torchvision
from models.config import Config
from models.configurable import configurable
from models.errors import CheckpointError, ConfigError
from models.metadata import DatasetMetadata
from models.postprocessing import paste_instance_masks, rescale_instances
from models.structures import Boxes, Instances
from models.wanted import Wanted, wanted_of


@META_ARCH_REGISTRY.register()
class TorchvisionDetector(nn.Module):
    """A detector of ``torchvision.models.detection``; its state dict has torchvision's names.

    Args:
        architecture: which one, and of how many classes.
        min_size, max_size: shorter side after the resize, and the bound of the longer one.
        score_thresh, nms_thresh, detections_per_image: of the detections.
        frozen_norm_eps: epsilon of the frozen norms, if the architecture has them. torchvision runs
            its first published weights, and so what was trained from them, with 0.
    """

    input_format = "RGB"
    takes_overrides = True

    @configurable
    def __init__(
        self,
        *,
        architecture: TorchvisionArchitecture,
        min_size: int = 800,
        max_size: int = 1333,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        detections_per_image: int = 100,
        frozen_norm_eps: float = 0.0,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.num_classes = architecture.num_classes
        self.preprocessing = TorchvisionPreprocessing(min_size, max_size)
        is_dense = architecture.family in ("retinanet", "fcos")
        options: dict[str, Any] = (
            {
                "score_thresh": score_thresh,
                "nms_thresh": nms_thresh,
                "detections_per_img": detections_per_image,
            }
            if is_dense
            else {
                "box_score_thresh": score_thresh,
                "box_nms_thresh": nms_thresh,
                "box_detections_per_img": detections_per_image,
            }
        )
        if architecture.num_keypoints:
            options["num_keypoints"] = architecture.num_keypoints
        builder = getattr(torchvision.models.detection, architecture.name)
        self.detector: Any = builder(
            weights=None,
            weights_backbone=None,
            num_classes=architecture.num_classes + 1,
            min_size=min_size,
            max_size=max_size,
            **options,
        )
        inner = self.detector.transform
        self.detector.transform = KeepSoftMasks(
            inner.min_size, inner.max_size, inner.image_mean, inner.image_std, inner.size_divisible
        )
        if architecture.frozen_norm:
            _freeze_norms_(self.detector.backbone.body, frozen_norm_eps)
        self._wanted: Sequence[Wanted] = ()
        self._found_scores: list[Tensor] = []
        if is_dense:
            override_in_dense_detector_(self.detector, lambda: self._wanted)
        else:
            override_in_roi_heads_(self.detector.roi_heads, lambda: self._wanted)
            self._choose_before_masks()

    def _choose_before_masks(self) -> None:
        """Between torchvision's choice of boxes and its masks and keypoints, drop what is not wanted."""
        heads = self.detector.roi_heads
        choose_boxes, has_mask = heads.postprocess_detections, heads.has_mask

        def postprocess_detections(*args: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
            boxes, scores, labels = choose_boxes(*args)
            self._found_scores = list(scores)
            for i, wanted in enumerate(self._wanted):
                found = Instances(
                    (0, 0), scores=scores[i], pred_classes=labels[i] - 1, pred_boxes=boxes[i]
                )
                index = wanted.index(found)
                boxes[i], scores[i], labels[i] = boxes[i][index], scores[i][index], labels[i][index]
            return boxes, scores, labels

        heads.postprocess_detections = postprocess_detections
        heads.has_mask = lambda: (
            bool(has_mask()) and (not self._wanted or any(wanted.masks for wanted in self._wanted))
        )

    @classmethod
    def from_config(cls, cfg: Config) -> dict[str, Any]:
        """Keywords from a config that :meth:`TorchvisionArchitecture.config` made."""
        if "MODEL.TORCHVISION.NAME" not in cfg:
            raise ConfigError(
                "MODEL.TORCHVISION.NAME is missing, such as fasterrcnn_resnet50_fpn.",
                key="MODEL.TORCHVISION.NAME",
            )
        options = cfg.MODEL.TORCHVISION
        name = options.NAME
        if name not in torchvision.models.list_models(torchvision.models.detection):
            raise ConfigError(
                f"torchvision has no detector {name!r}.", key="MODEL.TORCHVISION.NAME"
            )
        keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS if cfg.MODEL.KEYPOINT_ON else 0
        return {
            "architecture": TorchvisionArchitecture(
                name=name,
                num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
                num_keypoints=keypoints,
                frozen_norm=bool(options.get("FROZEN_NORM", False)),
            ),
            "min_size": cfg.INPUT.MIN_SIZE_TEST,
            "max_size": cfg.INPUT.MAX_SIZE_TEST,
            "score_thresh": cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
            "nms_thresh": cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
            "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "frozen_norm_eps": float(options.get("FROZEN_NORM_EPS", 0.0)),
        }

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(self.detector.parameters()).device  # type: ignore[no-any-return]  # torchvision has no types

    @property
    def metadata(self) -> DatasetMetadata | None:
        """Names of torchvision's published classes, if the model has as many."""
        names = self.architecture.class_names
        if names is None:
            return None
        return DatasetMetadata(
            source=f"torchvision {self.architecture.name}",
            thing_classes=names,
            keypoint_names=self.architecture.keypoint_names or (),
        )

    @property
    def size_divisibility(self) -> int:
        """Batches are padded to multiples of this, after the resize."""
        return self.preprocessing.size_divisibility

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The tensors by torchvision's names."""
        return self.detector.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Takes torchvision's names."""
        return self.detector.load_state_dict(*args, **kwargs)

    def forward(self, batched_inputs: Inputs) -> Outputs:
        """Per image ``{"instances": Instances}``; ``pred_masks`` are (R, height, width) bool.

        Args:
            batched_inputs: per image a dict with ``image``, (3, H, W) RGB with pixels in 0 .. 255
                at its own size, and optionally ``height`` and ``width`` of the answer.
        """
        if self.training:
            raise NotImplementedError("torchvision's detectors are served, not trained, here.")
        return [
            {"instances": paste_instance_masks(output["instances"])}
            for output in self.predict(batched_inputs)
        ]

    def predict(self, batched_inputs: Inputs) -> Outputs:
        """As :meth:`forward`, but ``pred_masks`` stay soft and small, (R, 1, M, M) over each box.

        Of an R-CNN, inputs with ``wanted`` get those instances alone; masks are left out if no input
        wants any.
        """
        outputs: Outputs = []
        self._wanted = [wanted_of(inputs) for inputs in batched_inputs]
        self._found_scores = []
        try:
            detected = self.inference(batched_inputs, do_postprocess=False)
        finally:
            self._wanted = ()
        for inputs, instances in zip(batched_inputs, detected, strict=True):
            height, width = instances.image_size
            size = (int(inputs.get("height", height)), int(inputs.get("width", width)))
            outputs.append({"instances": rescale_instances(instances, *size)})
        if self._found_scores:
            for inputs, output, scores in zip(
                batched_inputs, outputs, self._found_scores, strict=True
            ):
                if "wanted" in inputs:
                    output["found_scores"] = scores
        return outputs

    @torch.no_grad()
    def inference(self, batched_inputs: Inputs, do_postprocess: bool = True) -> list[Instances]:
        """Detect in N images.

        Images of one padded size (:meth:`TorchvisionPreprocessing.padded_size`) do not influence each
        other; torchvision pads others to the largest.

        Args:
            batched_inputs: as in :meth:`forward`.
            do_postprocess: scale to ``height`` and ``width`` and paste the masks.

        Returns:
            Per image ``pred_boxes``, ``scores``, ``pred_classes`` (0 is torchvision's label 1) and, as
            the model has them, ``pred_masks`` and ``pred_keypoints`` (R, K, 3): x, y and torchvision's
            score, a logit. Without post-processing all is in pixels of ``image``, and masks are soft.
        """
        if do_postprocess:
            return [output["instances"] for output in self.forward(batched_inputs)]
        images = [inputs["image"].to(self.device).float().div(255) for inputs in batched_inputs]
        return [
            _to_instances(detections, (image.shape[-2], image.shape[-1]))
            for detections, image in zip(self.detector(images), images, strict=True)
        ]


def load_torchvision(
    path: str | Path, *, name: str | None = None
) -> tuple[TorchvisionDetector, LoadReport]:
    """Builds the detector that a state dict of torchvision's belongs to, and loads it.

    Args:
        path: the file.
        name: of the function that builds it, where the file cannot tell:
            ``fasterrcnn_mobilenet_v3_large_320_fpn`` has the tensors of its larger relative.

    Raises:
        CheckpointError: the file cannot be read, is of none of torchvision's detectors, or lacks
            tensors of the one that it looks like.
    """
    cfg = torchvision_config(path)
    if name is not None:
        cfg = cfg.override("MODEL.TORCHVISION.NAME", name)
    detector = TorchvisionDetector(cfg).eval()
    return detector, load_checkpoint(detector, path)


def torchvision_config(path: str | Path) -> Config:
    """The config of the detector that a state dict of torchvision's belongs to.

    Raises:
        CheckpointError: the file cannot be read, or is of none of torchvision's detectors.
    """
    architecture = detect_torchvision(read_checkpoint(path).state_dict)
    if architecture is None:
        raise CheckpointError(
            f"{Path(path).name} needs its config: without one only files of torchvision's Faster, "
            "Mask and Keypoint R-CNN, RetinaNet and FCOS with their usual backbones are known. Name "
            "the config.yaml that training wrote beside the weights.",
            file=Path(path).name,
        )
    return architecture.config()


def _to_instances(detections: dict[str, Tensor], image_size: tuple[int, int]) -> Instances:
    instances = Instances(image_size)
    instances.pred_boxes = Boxes(detections["boxes"])
    instances.scores = detections["scores"]
    instances.pred_classes = detections["labels"] - 1
    if "masks" in detections:
        instances.pred_masks = detections["masks"]
    if "keypoints" in detections:
        scores = detections["keypoints_scores"]
        instances.pred_keypoints = torch.cat(
            [detections["keypoints"][:, :, :2], scores[:, :, None]], dim=2
        )
    # RetinaNet and FCOS have an output for the background too, which training never asks for.
    return instances[instances.pred_classes >= 0]


def _freeze_norms_(body: nn.Module, eps: float) -> None:
    """Puts frozen norms in the place of batch norms; what they hold is loaded later."""
    for name, child in list(body.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(body, name, FrozenBatchNorm2d(child.num_features, eps=eps))
        else:
            _freeze_norms_(child, eps)
