"""Dumped lazy configs: what Detectron2 writes beside a checkpoint that a Python config trained.

Such a file says what to call (``_target_``) with which keywords. It is read as data: the tree of
the model, references replaced, is kept under ``LAZY_MODEL``, from which
:func:`models.build_model` builds; what the rest of the library reads from a config (input size,
channel order, numbers of classes, thresholds) is set beside it under Detectron2's usual keys.
Such a config, dumped, is read here again, but not by Detectron2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.config.interpolation import resolve
from models.config.lazy_tags import LAMBDA, LAZY_KEY, NAME_KEY, TARGET_KEY
from models.errors import ConfigError

_NORM_KEYS = {"norm", "conv_norm"}


def is_lazy(values: Mapping[str, Any]) -> bool:
    """Whether the values of a file are those of a dumped lazy config."""
    model = values.get("model")
    return isinstance(model, Mapping) and TARGET_KEY in model


def lazy_changes(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a dumped lazy config sets, in the keys of a Detectron2 config and under ``LAZY_MODEL``.

    Args:
        values: the file, with tags as :mod:`models.config.lazy_tags` leaves them.
        name: what error messages call the file.

    Raises:
        ConfigError: a reference cannot be followed, or a part has a form that is not known.
    """
    model = _plain_norms(resolve(values, ("model",), name), "model", name)
    if not isinstance(model[TARGET_KEY], str):
        raise ConfigError(f"{name}: model._target_ must be the dotted name of a class.")
    changes: dict[str, Any] = {LAZY_KEY: model, "MODEL": _model_changes(model)}
    limit = _limits(model).get("max_detections")
    if limit is not None:
        changes["TEST"] = {"DETECTIONS_PER_IMAGE": limit}
    changes["INPUT"], changes["DATASETS"] = _data_changes(values, model, name)
    return changes


def target_name(tree: Any) -> str:
    """The last part of a node's ``_target_``, "" when it is no call."""
    target = tree.get(TARGET_KEY) if isinstance(tree, Mapping) else None
    return target.rsplit(".", 1)[-1] if isinstance(target, str) else ""


def _plain_norms(tree: Any, path: str, name: str) -> Any:
    """The tree with "BN" for each lambda that makes a norm.

    Detectron2's large-scale-jitter configs have one, for a synchronised batch norm that is batch
    norm in inference; a dump keeps nothing of a lambda but that it was one.

    Raises:
        ConfigError: a lambda stands elsewhere.
    """
    if isinstance(tree, list):
        return [_plain_norms(item, f"{path}.{i}", name) for i, item in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    named = tree.get(NAME_KEY)
    if isinstance(named, str) and named.rsplit(".", 1)[-1] == LAMBDA:
        if path.rsplit(".", 1)[-1] in _NORM_KEYS:
            return "BN"
        raise ConfigError(
            f"{name}: {path} was a lambda, of which a dump keeps nothing. Put the value that it "
            "stands for there."
        )
    return {key: _plain_norms(value, f"{path}.{key}", name) for key, value in tree.items()}


def _section(tree: Any, *keys: str) -> dict[str, Any]:
    """A mapping further down; empty where there is none."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, dict) else {}


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _model_changes(model: dict[str, Any]) -> dict[str, Any]:
    roi_heads = _section(model, "roi_heads")
    limits = _limits(model)
    numbers = _given(
        NUM_CLASSES=(roi_heads or model).get("num_classes"),
        SCORE_THRESH_TEST=limits.get("score_threshold"),
        NMS_THRESH_TEST=limits.get("nms_threshold"),
    )
    backbone = _section(model, "backbone")
    stages = _section(backbone, "bottom_up", "stages") or _section(backbone, "stages")
    semantic = _section(model, "sem_seg_head")
    keypoint_head = _section(roi_heads, "keypoint_head")
    return {
        "META_ARCHITECTURE": target_name(model),
        "MASK_ON": bool(_section(roi_heads, "mask_head")),
        "KEYPOINT_ON": bool(keypoint_head),
        **_given(PIXEL_MEAN=model.get("pixel_mean"), PIXEL_STD=model.get("pixel_std")),
        "ROI_HEADS" if roi_heads else "RETINANET": numbers,
        "ROI_KEYPOINT_HEAD": _given(NUM_KEYPOINTS=keypoint_head.get("num_keypoints")),
        "SEM_SEG_HEAD": _given(NUM_CLASSES=semantic.get("num_classes")),
        "RESNETS": _given(DEPTH=stages.get("depth")),
    }


def _limits(model: dict[str, Any]) -> dict[str, Any]:
    """Thresholds of the final detections, with the defaults of the constructors that take them."""
    roi_heads = _section(model, "roi_heads")
    if roi_heads:
        predictor = roi_heads.get("box_predictor")
        if roi_heads.get("box_predictors"):  # a cascade has one for each stage
            predictor = roi_heads["box_predictors"][-1]
        predictor = predictor if isinstance(predictor, dict) else {}
        return {
            "score_threshold": predictor.get("test_score_thresh", 0.0),
            "nms_threshold": predictor.get("test_nms_thresh", 0.5),
            "max_detections": predictor.get("test_topk_per_image", 100),
        }
    defaults = {"RetinaNet": (0.05, 0.5), "FCOS": (0.2, 0.6)}.get(target_name(model))
    if defaults is None:
        return {}
    return {
        "score_threshold": model.get("test_score_thresh", defaults[0]),
        "nms_threshold": model.get("test_nms_thresh", defaults[1]),
        "max_detections": model.get("max_detections_per_image", 100),
    }


def _data_changes(
    values: Mapping[str, Any], model: dict[str, Any], name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """INPUT and DATASETS, out of the loader that the model was tested with."""
    loader = values.get("dataloader")
    data = resolve(values, ("dataloader",), name) if isinstance(loader, Mapping) else {}
    mapper = _section(data, "test", "mapper")
    channels = mapper.get("image_format", model.get("input_format"))
    inputs = _given(FORMAT=channels)
    if mapper:
        inputs |= _test_size(mapper.get("augmentations"), name)
    datasets = {
        "TEST": _names(_section(data, "test", "dataset")),
        "TRAIN": _names(_section(data, "train", "dataset")),
    }
    return inputs, datasets


def _names(dataset: dict[str, Any]) -> list[str]:
    names = dataset.get("names", [])
    return [names] if isinstance(names, str) else list(names or [])


def _test_size(augmentations: Any, name: str) -> dict[str, Any]:
    where = "dataloader.test.mapper.augmentations"
    steps = augmentations if isinstance(augmentations, list) else []
    resizes = [step for step in steps if target_name(step) == "ResizeShortestEdge"]
    if len(resizes) != 1:
        raise ConfigError(
            f"{name}: {where} has {len(resizes)} ResizeShortestEdge, but one says how images are "
            "resized for this model. Add it, with short_edge_length and max_size."
        )
    short = resizes[0].get("short_edge_length")
    if isinstance(short, list) and len(set(map(str, short))) == 1:
        short = short[0]
    longest = resizes[0].get("max_size")
    for key, value in (("short_edge_length", short), ("max_size", longest)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{name}: {where}: {key} must be one whole number, not {value!r}.")
    return {"MIN_SIZE_TEST": short, "MAX_SIZE_TEST": longest}
