"""The real detector: a :class:`models.Predictor` behind the service's interface."""

from __future__ import annotations

import gc
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models import Instances, Predictor
from models.config import Config
from models.config.lazy import target_name
from models.config.lazy_tags import LAZY_KEY
from models.metadata import metadata_for
from models.postprocessing import rescale_instances
from models.zoo import ZooModel
from service.inference.detector import ModelDescription, PreparedImage
from service.repository.labels import ClassNames


def _backbone_name(cfg: Config) -> str:
    resnets = cfg.MODEL.RESNETS
    if "TORCHVISION" in cfg.MODEL:
        return str(cfg.MODEL.TORCHVISION.NAME)
    if LAZY_KEY in cfg:
        backbone = cfg[LAZY_KEY].to_dict().get("backbone", {})
        inner = backbone.get("bottom_up", backbone)
        name = target_name(inner)
        name = f"ResNet-{resnets.DEPTH}" if name == "ResNet" else name
        return name if inner is backbone else f"{name} {target_name(backbone)}"
    name = f"ResNet-{resnets.DEPTH}"
    if resnets.NUM_GROUPS > 1:
        name = f"ResNeXt-{resnets.DEPTH} {resnets.NUM_GROUPS}x{resnets.WIDTH_PER_GROUP}d"
    return f"{name} FPN" if "fpn" in cfg.MODEL.BACKBONE.NAME else name


class TorchDetector:
    """A GeneralizedRCNN resident on its device."""

    def __init__(
        self,
        predictor: Predictor,
        class_names: ClassNames,
        *,
        config_name: str,
        weights_file: Path,
    ) -> None:
        self._predictor: Predictor | None = predictor
        cfg = predictor.cfg
        self._preprocess = predictor.preprocess
        report = predictor.report
        self._description = ModelDescription(
            architecture=cfg.MODEL.META_ARCHITECTURE,
            backbone=_backbone_name(cfg),
            task="instance_segmentation" if cfg.MODEL.MASK_ON else "object_detection",
            class_names=class_names.names,
            class_names_source=class_names.source,
            score_threshold=float(cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST),
            nms_threshold=float(cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST),
            max_detections=int(cfg.TEST.DETECTIONS_PER_IMAGE),
            input_format=cfg.INPUT.FORMAT,
            min_size=int(cfg.INPUT.MIN_SIZE_TEST),
            max_size=int(cfg.INPUT.MAX_SIZE_TEST),
            device=str(predictor.device),
            precision="float32",
            weights_file=weights_file.name,
            weights_sha256=report.sha256 if report else "",
            config_file=config_name,
            load_report=report.to_dict() if report else {},
        )

    @property
    def description(self) -> ModelDescription:
        """What the model is."""
        return self._description

    @property
    def recipe(self) -> Hashable:
        """Channel order, resize and padding."""
        return self._preprocess

    @property
    def predictor(self) -> Predictor:
        """The model with its pre-processing; RuntimeError once closed."""
        if self._predictor is None:
            raise RuntimeError("This detector is closed.")
        return self._predictor

    def prepare(self, pixels: NDArray[np.uint8]) -> PreparedImage:
        """Resize and reorder the channels, on the calling thread; works on a closed detector too."""
        tensor = self._preprocess(pixels)
        return PreparedImage(
            tensor=tensor,
            height=pixels.shape[0],
            width=pixels.shape[1],
            padded_size=self._preprocess.padded_size(tensor),
            recipe=self._preprocess,
        )

    def infer(self, batch: Sequence[PreparedImage]) -> list[Instances]:
        """Run one batch; boxes come back in pixels of each picture, masks soft and small."""
        with torch.inference_mode():
            results: list[Instances] = self.predictor.model.inference(
                [{"image": image.tensor} for image in batch], do_postprocess=False
            )
            return [
                rescale_instances(instances, image.height, image.width).to("cpu")
                for instances, image in zip(results, batch, strict=True)
            ]

    def close(self) -> int:
        """Drop the model and give its memory back to the device."""
        if self._predictor is None:
            return 0
        model, device = self._predictor.model, self._predictor.device
        tensors = [*model.parameters(), *model.buffers()]
        freed: int = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        self._predictor = None
        del model, tensors
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return freed


def load_torch_detector(
    *,
    config: Path | ZooModel | None,
    weights: Path,
    labels: Path | None,
    device: str,
    root: Path | None = None,
) -> TorchDetector:
    """Load a model from its files onto ``device``.

    Args:
        config: the file, or the model of the zoo whose config it is; None for weights of
            torchvision's own detectors.
        weights: the file.
        labels: class names; None looks elsewhere, see :meth:`ClassNames.find`.
        device: see :func:`models.device.resolve_device`.
        root: a folder that the config and its bases must not leave; None trusts the paths.

    Raises:
        models.ModelError: with a sentence that says why it cannot be served.
    """
    if isinstance(config, ZooModel):
        predictor = Predictor.from_config(config.config(), weights, device=device)
    else:
        predictor = Predictor.from_files(config, weights, device=device, root=root)
    model = predictor.model
    metadata = model.metadata if config is None else metadata_for(predictor.cfg)
    names = ClassNames.find(
        labels,
        config=weights if config is None else config if isinstance(config, Path) else None,
        num_classes=model.num_classes if config is None else model.roi_heads.num_classes,
        metadata=metadata,
    )
    return TorchDetector(
        predictor, names, config_name=config.name if config else "", weights_file=weights
    )
