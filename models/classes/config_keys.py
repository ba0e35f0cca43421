"""The keys of a config that say how many classes a model has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.classes.tensors import ClassTensor, Part
from models.config import Config
from models.config.lazy_tags import LAZY_KEY

_COUNT = "num_classes"


def class_key(part: Part, tensors: Sequence[ClassTensor]) -> str:
    """The dotted key of the number of classes of ``part``, for a model with these tensors."""
    if part == "stuff":
        return "MODEL.SEM_SEG_HEAD.NUM_CLASSES"
    dense = any(tensor.role == "dense" for tensor in tensors)
    return "MODEL.RETINANET.NUM_CLASSES" if dense else "MODEL.ROI_HEADS.NUM_CLASSES"


def with_class_counts(
    cfg: Config, counts: Mapping[Part, int], tensors: Sequence[ClassTensor]
) -> Config:
    """The config of the same model with other numbers of classes; no other key changes.

    Args:
        cfg: a YAML config, or a lazy one, whose call tree changes as well.
        counts: the new number of each part that changes.
        tensors: of the model that ``cfg`` describes.
    """
    values = cfg.to_dict()
    for part, count in counts.items():
        *sections, key = class_key(part, tensors).split(".")
        section = values
        for name in sections:
            section = section[name]
        section[key] = count
        if LAZY_KEY in values:
            _set_in_tree_(values[LAZY_KEY], part, count, tensors)
    return Config(values)


def masks_are_agnostic(cfg: Config) -> bool:
    """Whether one mask serves all classes, as far as the config says it."""
    return LAZY_KEY not in cfg and bool(cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK)


def _set_in_tree_(
    tree: dict[str, Any], part: Part, count: int, tensors: Sequence[ClassTensor]
) -> None:
    if part == "stuff":
        nodes = [tree.get("sem_seg_head")]
    elif "roi_heads" in tree:
        heads = tree["roi_heads"]
        nodes = [heads, heads.get("box_predictor"), *heads.get("box_predictors", ())]
        if any(tensor.role == "masks" for tensor in tensors):  # else one mask serves all
            nodes.append(heads.get("mask_head"))
    else:
        nodes = [tree, tree.get("head")]
    for node in nodes:
        if isinstance(node, dict) and _COUNT in node:
            node[_COUNT] = count
