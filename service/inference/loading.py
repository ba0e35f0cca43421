"""From a model's files to a detector on its device."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from models import Predictor
from models.config.class_keys import main_classes_key, stuff_classes_key
from models.config.idle_keys import idle_key_notes
from models.execution import Mode
from models.facts import facts_of
from models.metadata import metadata_for
from models.zoo import ZooModel
from service.inference.torch_detector import MAX_DETECTIONS_LIMIT, TorchDetector
from service.repository.labels import ClassNames
from service.repository.model_settings import ModelSettings
from service.repository.sidecars import with_sidecars

logger = logging.getLogger(__name__)


def load_torch_detector(
    *,
    config: Path | ZooModel | None,
    weights: Path,
    labels: Path | None,
    device: str,
    root: Path | None = None,
    mode: Mode = "exact",
    resize: Literal["auto", "pil", "fast"] = "auto",
    settings: ModelSettings | None = None,
    max_detections_limit: int = MAX_DETECTIONS_LIMIT,
) -> TorchDetector:
    """Load a model from its files onto ``device``.

    Args:
        config: the file, or the model of the zoo whose config it is; None for weights of
            torchvision's own detectors.
        weights: the file.
        labels: class names; None looks elsewhere, see :meth:`ClassNames.find`. Names of stuff and of
            keypoints lie beside the config, see :func:`with_sidecars`.
        device: see :func:`models.device.resolve_device`.
        root: a folder that the config and its bases must not leave; None trusts the paths.
        mode, resize: see :class:`models.Predictor`.
        settings: of its ``model.yaml``; what they say comes before ``labels``, ``mode`` and ``resize``.
        max_detections_limit: see :class:`ModelDescription`.

    Raises:
        models.ModelError: with a sentence that says why it cannot be served.
    """
    settings = settings or ModelSettings()
    mode, resize = settings.mode or mode, settings.resize or resize
    if isinstance(config, ZooModel):
        predictor = Predictor.from_config(
            config.config(), weights, device=device, mode=mode, resize=resize
        )
    else:
        predictor = Predictor.from_files(
            config, weights, device=device, root=root, mode=mode, resize=resize
        )
    if predictor.plan.reason:
        logger.warning(
            "%s runs in mode %s instead of %s: %s",
            weights.name,
            predictor.plan.mode,
            predictor.plan.requested,
            predictor.plan.reason,
        )
    model = predictor.model
    for note in idle_key_notes(predictor.cfg):
        logger.warning("%s: %s", weights.name, note)
    facts = facts_of(model, predictor.cfg)
    semantic = "instances" not in facts.outputs
    metadata = with_sidecars(
        model.metadata if config is None else metadata_for(predictor.cfg),
        (config if isinstance(config, Path) else weights).parent,
        num_stuff_classes=0 if semantic else facts.num_stuff_classes,  # labels.txt has them
        num_keypoints=facts.num_keypoints,
        root=root,
        stuff_key=stuff_classes_key(predictor.cfg),
    )
    names = ClassNames.find(
        labels,
        config=weights if config is None else config if isinstance(config, Path) else None,
        num_classes=facts.num_stuff_classes if semantic else facts.num_classes,
        settings=settings.class_names,
        known=(metadata.stuff_classes if semantic else metadata.thing_classes) if metadata else (),
        source=metadata.source if metadata else "",
        root=root,
        key=main_classes_key(predictor.cfg),
    )
    return TorchDetector(
        predictor,
        names,
        config_name=config.name if config else "",
        weights_file=weights,
        metadata=metadata,
        settings=settings,
        max_detections_limit=max_detections_limit,
    )
