"""What a loaded model is, for those who ask the service."""

from __future__ import annotations

from models import Predictor
from models.config import Config
from models.config.lazy import target_name
from models.config.lazy_tags import LAZY_KEY
from models.errors import ModelError
from models.facts import ModelFacts
from models.metadata import DatasetMetadata
from service.inference.detector import ModelDescription, Views
from service.repository.labels import ClassNames
from service.repository.model_settings import FILE_NAME, ModelSettings


def describe(
    predictor: Predictor,
    facts: ModelFacts,
    class_names: ClassNames,
    *,
    config_name: str,
    weights_name: str,
    metadata: DatasetMetadata | None,
    settings: ModelSettings,
    max_detections_limit: int,
) -> ModelDescription:
    """The description of a model.

    Args:
        predictor: with the model.
        facts: what its config and its modules tell.
        class_names: of the model.
        config_name, weights_name: of the files that it was made of; "" where there is none.
        metadata: of the data set that it was trained on, as far as it is known.
        settings: what its owner wants.
        max_detections_limit: see :class:`ModelDescription`.

    Raises:
        ModelError: the settings' defaults ask for what the model does not compute.
    """
    _require_possible(settings, facts)
    cfg, report = predictor.cfg, predictor.report
    return ModelDescription(
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
        precision=predictor.plan.dtype,
        execution=predictor.plan.to_dict(),
        weights_file=weights_name,
        weights_sha256=report.sha256 if report else "",
        config_file=config_name,
        load_report=(report.to_dict() if report else {}) | {"execution": predictor.plan.to_dict()},
        outputs=facts.outputs,
        box_mode=facts.box_mode,
        score_threshold_key=facts.score_threshold_key,
        max_detections_key=facts.max_detections_key,
        takes_proposals=facts.takes_proposals,
        takes_overrides=facts.takes_overrides,
        max_detections_limit=max_detections_limit,
        stuff_class_names=_stuff_names(class_names, metadata, facts),
        keypoint_names=_keypoint_names(metadata, facts),
        keypoint_skeleton=_skeleton(metadata, facts),
        tta=_own_views(cfg) if facts.supports_tta else None,
        category_ids=_category_ids(class_names, metadata),
        class_colors=settings.class_colors,
        default_score_threshold=settings.score_threshold,
        default_max_detections=settings.max_detections,
        batching=settings.batching,
        about=settings.description,
    )


def _require_possible(settings: ModelSettings, facts: ModelFacts) -> None:
    """Defaults within the model's own bounds, or every request that names none would be refused."""
    threshold, most = settings.score_threshold, settings.max_detections
    if threshold is not None and threshold < facts.score_threshold:
        raise ModelError(
            f"{FILE_NAME}: score_threshold {threshold:g} is below the model's own, "
            f"{facts.score_threshold:g}, and the model computes nothing there. Raise it, or lower "
            f"{facts.score_threshold_key} in the config.",
            value=threshold,
            minimum=float(facts.score_threshold),
        )
    if most is not None and 0 <= facts.max_detections < most:
        raise ModelError(
            f"{FILE_NAME}: max_detections {most} is above the model's own, {facts.max_detections}, "
            f"and the model keeps no more. Lower it, or raise {facts.max_detections_key} in the config.",
            value=most,
            maximum=int(facts.max_detections),
        )


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


def _category_ids(class_names: ClassNames, metadata: DatasetMetadata | None) -> tuple[int, ...]:
    """The data set's ids, if the classes are its own: under other names its numbers would mislead."""
    if metadata is None or class_names.names != metadata.thing_classes:
        return ()
    return metadata.thing_ids


def _keypoint_names(metadata: DatasetMetadata | None, facts: ModelFacts) -> tuple[str, ...]:
    if metadata is not None and len(metadata.keypoint_names) == facts.num_keypoints:
        return metadata.keypoint_names
    return tuple(f"keypoint_{i}" for i in range(facts.num_keypoints))


def _skeleton(metadata: DatasetMetadata | None, facts: ModelFacts) -> tuple[tuple[int, int], ...]:
    names = _keypoint_names(metadata, facts)
    if metadata is None or names != metadata.keypoint_names:
        return ()
    return tuple((names.index(a), names.index(b)) for a, b in metadata.keypoint_skeleton)


def flip_indices(metadata: DatasetMetadata | None, facts: ModelFacts) -> list[int] | None:
    """For each keypoint the one that it becomes in the mirror; None when that is not known."""
    names = _keypoint_names(metadata, facts)
    if metadata is None or not names or names != metadata.keypoint_names:
        return None
    pairs = dict(metadata.keypoint_flip_map)
    pairs |= {b: a for a, b in pairs.items()}
    return [names.index(pairs.get(name, name)) for name in names] if pairs else None
