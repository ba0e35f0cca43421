"""What a config's model wants to learn: how many classes and keypoints, masks, maps, proposals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.config import Config
from models.config.class_keys import DENSE, stuff_classes_key, thing_classes_key
from models.config.lazy_tags import LAZY_KEY, TARGET_KEY


@dataclass(frozen=True)
class Expectations:
    """What the data has to have for a config.

    Attributes:
        num_classes: of instances; None where the model has none (proposals, semantic maps) or the config
            does not say.
        classes_key: where the config says so.
        num_stuff: classes of a semantic head; None without one.
        stuff_key: where the config says so.
        masks: whether instance masks are learned.
        num_keypoints: of each object; 0 without a keypoint head.
        keypoints_key: where the config says so.
        rotated: whether boxes are rotated.
    """

    num_classes: int | None
    classes_key: str
    num_stuff: int | None
    stuff_key: str
    masks: bool
    num_keypoints: int
    keypoints_key: str
    rotated: bool


def expectations_of(cfg: Config) -> Expectations:
    """Read them off a config, YAML or lazy."""
    key, stuff_key = thing_classes_key(cfg), stuff_classes_key(cfg)
    if LAZY_KEY in cfg:
        return _of_lazy(cfg[LAZY_KEY], key, stuff_key)
    model = cfg.MODEL
    architecture: str = model.META_ARCHITECTURE
    has_instances = architecture not in ("SemanticSegmentor", "ProposalNetwork")
    has_rois = has_instances and architecture not in DENSE
    has_stuff = architecture in ("SemanticSegmentor", "PanopticFPN")
    keypoints_key = "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"
    return Expectations(
        num_classes=cfg[key] if has_instances else None,
        classes_key=key,
        num_stuff=cfg[stuff_key] if has_stuff else None,
        stuff_key=stuff_key,
        masks=has_rois and model.MASK_ON,
        num_keypoints=cfg[keypoints_key] if has_rois and model.KEYPOINT_ON else 0,
        keypoints_key=keypoints_key,
        rotated=has_instances and model.PROPOSAL_GENERATOR.NAME == "RRPN",
    )


def _of_lazy(tree: Mapping[str, Any], key: str, stuff_key: str) -> Expectations:
    """Of the call tree of a lazy config: its keywords are those of the modules."""
    heads, semantic = _below(tree, "roi_heads"), _below(tree, "sem_seg_head")
    dense = str(tree.get(TARGET_KEY, "")).rsplit(".", 1)[-1] in DENSE
    holder = tree if dense else heads
    keypoints = _below(heads, "keypoint_head")
    return Expectations(
        num_classes=_whole(holder.get("num_classes")),
        classes_key=key,
        num_stuff=_whole(semantic.get("num_classes")),
        stuff_key=stuff_key,
        masks=bool(_below(heads, "mask_head")),
        num_keypoints=_whole(keypoints.get("num_keypoints")) or 0,
        keypoints_key="model.roi_heads.keypoint_head.num_keypoints",
        rotated=False,
    )


def _below(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = tree.get(key)
    return found if isinstance(found, Mapping) else {}


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None
