"""The real detector: a :class:`models.Predictor` behind the service's interface."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Boxes, Instances, Predictor
from models.config import Config
from models.config.lazy import target_name
from models.config.lazy_tags import LAZY_KEY
from models.facts import ModelFacts, facts_of
from models.metadata import DatasetMetadata, metadata_for
from models.test_time_augmentation import DatasetMapperTTA, with_tta
from models.zoo import ZooModel
from service.inference.detector import ModelDescription, Prediction, PreparedImage, Views
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
    """A model resident on its device."""

    def __init__(
        self,
        predictor: Predictor,
        class_names: ClassNames,
        *,
        config_name: str,
        weights_file: Path,
        metadata: DatasetMetadata | None = None,
    ) -> None:
        self._predictor: Predictor | None = predictor
        cfg = predictor.cfg
        self._preprocess = predictor.preprocess
        report = predictor.report
        facts = facts_of(predictor.model, cfg)
        self._keypoint_flip = _flip_indices(metadata, facts)
        self._description = ModelDescription(
            architecture=cfg.MODEL.META_ARCHITECTURE,
            backbone=_backbone_name(cfg),
            task=facts.task,
            class_names=class_names.names,
            class_names_source=class_names.source,
            score_threshold=float(facts.score_threshold),
            nms_threshold=float(facts.nms_threshold),
            max_detections=int(facts.max_detections),
            input_format=cfg.INPUT.FORMAT,
            min_size=int(cfg.INPUT.MIN_SIZE_TEST),
            max_size=int(cfg.INPUT.MAX_SIZE_TEST),
            device=str(predictor.device),
            precision="float32",
            weights_file=weights_file.name,
            weights_sha256=report.sha256 if report else "",
            config_file=config_name,
            load_report=report.to_dict() if report else {},
            outputs=facts.outputs,
            box_mode=facts.box_mode,
            score_threshold_key=facts.score_threshold_key,
            max_detections_key=facts.max_detections_key,
            takes_proposals=facts.takes_proposals,
            stuff_class_names=_stuff_names(class_names, metadata, facts),
            keypoint_names=_keypoint_names(metadata, facts),
            keypoint_skeleton=_skeleton(metadata, facts),
            tta=_own_views(cfg) if facts.supports_tta else None,
        )

    @property
    def description(self) -> ModelDescription:
        """What the model is."""
        return self._description

    @property
    def recipe(self) -> Hashable:
        """Channel order, resize and padding, views and whether proposals come with an image."""
        return self._preprocess, self._description.tta, self._description.takes_proposals

    @property
    def predictor(self) -> Predictor:
        """The model with its pre-processing; RuntimeError once closed."""
        if self._predictor is None:
            raise RuntimeError("This detector is closed.")
        return self._predictor

    def prepare(
        self,
        pixels: NDArray[np.uint8],
        *,
        tta: Views | None = None,
        proposals: NDArray[np.float32] | None = None,
    ) -> PreparedImage:
        """Resize and reorder the channels, on the calling thread; works on a closed detector too."""
        tensor = self._preprocess(pixels)
        height, width = pixels.shape[:2]
        views: tuple[dict[str, Any], ...] = ()
        if tta is not None:
            mapper = DatasetMapperTTA(tta.sizes, tta.max_size, tta.flip)
            views = tuple(mapper({"image": tensor, "height": height, "width": width}))
        boxes = None
        if proposals is not None:
            x, y = tensor.shape[-1] / width, tensor.shape[-2] / height
            boxes = torch.from_numpy(proposals) * torch.tensor([x, y, x, y])
        return PreparedImage(
            tensor=tensor,
            height=height,
            width=width,
            padded_size=self._preprocess.padded_size(tensor),
            recipe=self.recipe,
            views=views,
            proposals=boxes,
        )

    def infer(
        self, batch: Sequence[PreparedImage], pause: Callable[[], None] | None = None
    ) -> list[Prediction]:
        """Run one batch; boxes come back in pixels of each picture, masks soft and small."""
        plain = [image for image in batch if not image.views]
        with torch.inference_mode():
            outputs = iter(self._predict(plain) if plain else [])
            return [
                _to_prediction(self._predict_views(image, pause) if image.views else next(outputs))
                for image in batch
            ]

    def _predict(self, images: Sequence[PreparedImage]) -> list[dict[str, Any]]:
        inputs = []
        for image in images:
            one = {"image": image.tensor, "height": image.height, "width": image.width}
            if image.proposals is not None:
                size = (image.tensor.shape[-2], image.tensor.shape[-1])
                one["proposals"] = Instances(
                    size,
                    proposal_boxes=Boxes(image.proposals),
                    objectness_logits=torch.zeros(len(image.proposals)),
                )
            inputs.append(one)
        model = self.predictor.model
        # A plug-in architecture may answer in Detectron2's way only, with whole masks.
        outputs: list[dict[str, Any]] = getattr(model, "predict", model)(inputs)
        return outputs

    def _predict_views(
        self, image: PreparedImage, pause: Callable[[], None] | None
    ) -> dict[str, Any]:
        """Test-time augmentation of one image, whose views are made already."""
        model = with_tta(
            self.predictor.cfg,
            self.predictor.model,
            tta_mapper=lambda inputs: inputs["views"],
            keypoint_flip=self._keypoint_flip,
            between=pause,
        )
        return model.predict([{"views": list(image.views)}])[0]

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


def _to_prediction(output: dict[str, Any]) -> Prediction:
    """One image's output, on the CPU; of a semantic map only the best class of each pixel."""
    instances, proposals = output.get("instances"), output.get("proposals")
    sem_seg, panoptic = output.get("sem_seg"), output.get("panoptic_seg")
    return Prediction(
        instances=instances.to("cpu") if instances is not None else None,
        proposals=proposals.to("cpu") if proposals is not None else None,
        sem_seg=sem_seg.argmax(dim=0).to(torch.int16).cpu() if sem_seg is not None else None,
        panoptic_seg=(panoptic[0].cpu(), panoptic[1]) if panoptic is not None else None,
    )


def _own_views(cfg: Config) -> Views:
    aug = cfg.TEST.AUG
    return Views(tuple(aug.MIN_SIZES), int(aug.MAX_SIZE), bool(aug.FLIP))


def _stuff_names(
    class_names: ClassNames, metadata: DatasetMetadata | None, facts: ModelFacts
) -> tuple[str, ...]:
    """Names of the semantic head's classes; a model that has no others takes them from the labels."""
    count = facts.num_stuff_classes
    if count and "instances" not in facts.outputs:
        return class_names.names
    if metadata is not None and len(metadata.stuff_classes) == count:
        return metadata.stuff_classes
    return tuple(f"stuff_{i}" for i in range(count))


def _keypoint_names(metadata: DatasetMetadata | None, facts: ModelFacts) -> tuple[str, ...]:
    if metadata is not None and len(metadata.keypoint_names) == facts.num_keypoints:
        return metadata.keypoint_names
    return tuple(f"keypoint_{i}" for i in range(facts.num_keypoints))


def _skeleton(metadata: DatasetMetadata | None, facts: ModelFacts) -> tuple[tuple[int, int], ...]:
    names = _keypoint_names(metadata, facts)
    if metadata is None or names != metadata.keypoint_names:
        return ()
    return tuple((names.index(a), names.index(b)) for a, b in metadata.keypoint_skeleton)


def _flip_indices(metadata: DatasetMetadata | None, facts: ModelFacts) -> list[int] | None:
    """For each keypoint the one that it becomes in the mirror; None when that is not known."""
    names = _keypoint_names(metadata, facts)
    if metadata is None or not names or names != metadata.keypoint_names:
        return None
    pairs = dict(metadata.keypoint_flip_map)
    pairs |= {b: a for a, b in pairs.items()}
    return [names.index(pairs.get(name, name)) for name in names] if pairs else None


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
    facts = facts_of(model, predictor.cfg)
    semantic = "instances" not in facts.outputs
    names = ClassNames.find(
        labels,
        config=weights if config is None else config if isinstance(config, Path) else None,
        num_classes=facts.num_stuff_classes if semantic else facts.num_classes,
        known=(metadata.stuff_classes if semantic else metadata.thing_classes) if metadata else (),
        source=metadata.source if metadata else "",
    )
    return TorchDetector(
        predictor,
        names,
        config_name=config.name if config else "",
        weights_file=weights,
        metadata=metadata,
    )
