"""Old config versions: which keys were renamed on the way to version 2."""

from __future__ import annotations

from typing import Any

from models.config.defaults import DEFAULTS
from models.errors import ConfigError

LATEST_VERSION: int = DEFAULTS["VERSION"]

# Old name -> new name. Values kept their meaning in all of them.
_RENAMED = {
    "MODEL.RPN_HEAD.NAME": "MODEL.RPN.HEAD_NAME",
    "MODEL.WEIGHT": "MODEL.WEIGHTS",
    "MODEL.PANOPTIC_FPN.SEMANTIC_LOSS_SCALE": "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT",
    "MODEL.PANOPTIC_FPN.RPN_LOSS_SCALE": "MODEL.RPN.LOSS_WEIGHT",
    "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_SCALE": "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT",
    "MODEL.PANOPTIC_FPN.COMBINE_ON": "MODEL.PANOPTIC_FPN.COMBINE.ENABLED",
    "MODEL.PANOPTIC_FPN.COMBINE_OVERLAP_THRESHOLD": "MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH",
    "MODEL.PANOPTIC_FPN.COMBINE_STUFF_AREA_LIMIT": "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT",
    "MODEL.PANOPTIC_FPN.COMBINE_INSTANCES_CONFIDENCE_THRESHOLD": (
        "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH"
    ),
    "MODEL.ROI_HEADS.SCORE_THRESH": "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "MODEL.ROI_HEADS.NMS": "MODEL.ROI_HEADS.NMS_THRESH_TEST",
    "MODEL.RETINANET.INFERENCE_SCORE_THRESHOLD": "MODEL.RETINANET.SCORE_THRESH_TEST",
    "MODEL.RETINANET.INFERENCE_TOPK_CANDIDATES": "MODEL.RETINANET.TOPK_CANDIDATES_TEST",
    "MODEL.RETINANET.INFERENCE_NMS_THRESHOLD": "MODEL.RETINANET.NMS_THRESH_TEST",
    "TEST.DETECTIONS_PER_IMG": "TEST.DETECTIONS_PER_IMAGE",
    "TEST.AUG_ON": "TEST.AUG.ENABLED",
    "TEST.AUG_MIN_SIZES": "TEST.AUG.MIN_SIZES",
    "TEST.AUG_MAX_SIZE": "TEST.AUG.MAX_SIZE",
    "TEST.AUG_FLIP": "TEST.AUG.FLIP",
}

_MISSING = object()


def version_of(values: dict[str, Any], inherited: int) -> int:
    """The version of one config file.

    Args:
        values: the file's own keys, which may be few.
        inherited: the version of the files that it builds on.

    Raises:
        ConfigError: VERSION is not one that exists.
    """
    version = values.get("VERSION")
    if version is None:
        # Detectron2 guesses by these two as well.
        old = any(_take(values, key) is not _MISSING for key in ("MODEL.WEIGHT", "TEST.AUG_ON"))
        return 1 if old else inherited
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise ConfigError(f"VERSION must be 1 or 2, not {version!r}.", key="VERSION")
    if version > LATEST_VERSION:
        raise ConfigError(
            f"The config has VERSION {version}, but the newest that is known is {LATEST_VERSION}. "
            "Update detserve, or dump the config with the Detectron2 that trained the model.",
            key="VERSION",
        )
    return version


def upgrade_(values: dict[str, Any], version: int, meta_architecture: str) -> None:
    """Renames the keys of one file to those of version 2, in place.

    Args:
        values: the file's own keys, which may be few.
        version: the file's version.
        meta_architecture: what MODEL.META_ARCHITECTURE is once the file is merged; version 1 had
            the anchors of RetinaNet apart from those of the RPN.
    """
    if version < LATEST_VERSION:
        for old, new in _RENAMED.items():
            _rename_(values, old, new)
        used, unused = "RPN", "RETINANET"
        if meta_architecture == "RetinaNet":
            used, unused = unused, used
        for old, new in (("ANCHOR_SIZES", "SIZES"), ("ANCHOR_ASPECT_RATIOS", "ASPECT_RATIOS")):
            _rename_(values, f"MODEL.{used}.{old}", f"MODEL.ANCHOR_GENERATOR.{new}")
            _take(values, f"MODEL.{unused}.{old}", remove=True)
        # Strides were always computed from the backbone.
        _take(values, "MODEL.RETINANET.ANCHOR_STRIDES", remove=True)
    values.pop("VERSION", None)


def _rename_(values: dict[str, Any], old: str, new: str) -> None:
    value = _take(values, old, remove=True)
    if value is _MISSING:
        return
    *sections, key = new.split(".")
    for section in sections:
        below = values.get(section)
        if not isinstance(below, dict):
            below = values[section] = {}
        values = below
    values.setdefault(key, value)


def _take(values: dict[str, Any], name: str, *, remove: bool = False) -> Any:
    """Reads a dotted key, and removes it with the sections that it leaves empty when asked to."""
    key, _, rest = name.partition(".")
    if key not in values:
        return _MISSING
    if not rest:
        return values.pop(key) if remove else values[key]
    below = values[key]
    if not isinstance(below, dict):
        return _MISSING
    found = _take(below, rest, remove=remove)
    if remove and found is not _MISSING and not below:
        del values[key]
    return found
