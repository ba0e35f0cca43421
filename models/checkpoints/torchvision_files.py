"""Weights of torchvision's own detectors: which one a file is of, seen from names and shapes alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import torch
import torchvision

from models.config import Config, default_config
from models.config.defaults import DEFAULTS
from models.config.merging import merge_

_Tensors = Mapping[str, torch.Tensor]

# What torchvision before 0.13 called its layers: the published files of the first generation.
_OLD_NAMES = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)", r"\1.0.\2"),
        (r"(rpn\.head\.conv)\.(weight|bias)", r"\1.0.0.\2"),
    )
)
_OLD_MASK_HEAD = re.compile(r"(roi_heads\.mask_head\.)mask_fcn(\d+)\.(weight|bias)")
_OLD_RETINANET = re.compile(
    r"(head\.(?:classification|regression)_head\.conv\.)([0246])\.(weight|bias)"
)

_FCOS = "head.regression_head.bbox_ctrness.weight"
_DENSE_CLASSES = "head.classification_head.cls_logits.weight"
_DENSE_BOXES = "head.regression_head.bbox_reg.weight"
_BOX_CLASSES = "roi_heads.box_predictor.cls_score.weight"
_MASK_CLASSES = "roi_heads.mask_predictor.mask_fcn_logits.weight"
_KEYPOINTS = "roi_heads.keypoint_predictor.kps_score_lowres.weight"

# torchvision's defaults: score threshold, NMS threshold, detections per image.
_THRESHOLDS = {"retinanet": (0.05, 0.5, 300), "fcos": (0.2, 0.6, 100)}
_RCNN_THRESHOLDS = (0.05, 0.5, 100)
# The builders whose published weights torchvision runs with no epsilon in the frozen norms.
_NO_EPSILON = frozenset(
    f"{family}_resnet50_fpn" for family in ("fasterrcnn", "maskrcnn", "keypointrcnn", "retinanet")
)


@dataclasses.dataclass(frozen=True)
class TorchvisionArchitecture:
    """One of torchvision's detectors, as a weights file has it.

    Attributes:
        name: of the function in ``torchvision.models.detection`` that builds it.
        num_classes: K classes, without the background, which torchvision counts and has first.
        num_keypoints: of each instance; 0 without a keypoint head.
        frozen_norm: the file was trained with frozen norms, as all that start from pretrained weights.
    """

    name: str
    num_classes: int
    num_keypoints: int = 0
    frozen_norm: bool = False

    @property
    def family(self) -> str:
        """``fasterrcnn``, ``maskrcnn``, ``keypointrcnn``, ``retinanet`` or ``fcos``."""
        return self.name.partition("_")[0]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """K names of the published weights if the number fits ("N/A" where COCO has gaps), or None."""
        meta = torchvision.models.get_model_weights(self.name).DEFAULT.meta
        names = tuple(str(name) for name in meta["categories"][1:])
        # A model of other keypoints was trained on other data, whatever its one class is called.
        published = not self.num_keypoints or self.keypoint_names is not None
        return names if published and len(names) == self.num_classes else None

    @property
    def keypoint_names(self) -> tuple[str, ...] | None:
        """Names of the keypoints of the published weights if the number fits, or None."""
        meta = torchvision.models.get_model_weights(self.name).DEFAULT.meta
        names = tuple(str(name) for name in meta.get("keypoint_names", ()))
        return names if names and len(names) == self.num_keypoints else None

    def config(self) -> Config:
        """A config that ``build_model`` builds it from; all of torchvision's defaults can be changed.

        The keys of ``MODEL.ROI_HEADS`` stand for RetinaNet and FCOS too.
        """
        score, nms, detections = _THRESHOLDS.get(self.family, _RCNN_THRESHOLDS)
        model: dict[str, Any] = {
            "META_ARCHITECTURE": "TorchvisionDetector",
            "TORCHVISION": {
                "NAME": self.name,
                "FROZEN_NORM": self.frozen_norm,
                "FROZEN_NORM_EPS": 0.0 if self.name in _NO_EPSILON else 1e-5,
            },
            "BACKBONE": {"NAME": self.name.partition("_")[2]},
            "MASK_ON": self.family == "maskrcnn",
            "KEYPOINT_ON": self.family == "keypointrcnn",
            "ROI_HEADS": {
                "NUM_CLASSES": self.num_classes,
                "SCORE_THRESH_TEST": score,
                "NMS_THRESH_TEST": nms,
            },
        }
        if self.num_keypoints:
            model["ROI_KEYPOINT_HEAD"] = {"NUM_KEYPOINTS": self.num_keypoints}
        changes = {
            "MODEL": model,
            "TEST": {"DETECTIONS_PER_IMAGE": detections},
            "INPUT": {"FORMAT": "RGB", "MIN_SIZE_TEST": 800, "MAX_SIZE_TEST": 1333},
        }
        values = default_config().to_dict()
        merge_(values, changes, DEFAULTS, "")
        return Config(values)


def detect_torchvision(state_dict: _Tensors) -> TorchvisionArchitecture | None:
    """Which of torchvision's detectors a state dict is of; None if of none that can be served.

    Args:
        state_dict: tensors by the names of :func:`canonical_names`.
    """
    body = _body(state_dict)
    if body is None:
        return None
    num_keypoints = 0
    version = ""
    if _FCOS in state_dict and _DENSE_CLASSES in state_dict:
        family, outputs = "fcos", _rows(state_dict, _DENSE_CLASSES)
    elif _DENSE_CLASSES in state_dict and _DENSE_BOXES in state_dict:
        anchors = max(_rows(state_dict, _DENSE_BOXES) // 4, 1)
        family, outputs = "retinanet", _rows(state_dict, _DENSE_CLASSES) // anchors
        version = "_v2" if "head.classification_head.conv.0.1.weight" in state_dict else ""
    elif _BOX_CLASSES in state_dict:
        family, outputs = "fasterrcnn", _rows(state_dict, _BOX_CLASSES)
        version = "_v2" if "roi_heads.box_head.5.weight" in state_dict else ""
        if _MASK_CLASSES in state_dict:
            family = "maskrcnn"
        elif _KEYPOINTS in state_dict and state_dict[_KEYPOINTS].ndim == 4:
            family, num_keypoints = "keypointrcnn", state_dict[_KEYPOINTS].shape[1]
    else:
        return None
    name = f"{family}_{body}_fpn{version}"
    if outputs < 2 or name not in torchvision.models.list_models(torchvision.models.detection):
        return None
    return TorchvisionArchitecture(
        name=name,
        num_classes=outputs - 1,
        num_keypoints=num_keypoints,
        frozen_norm=not any(
            key.startswith("backbone.body.") and key.endswith(".num_batches_tracked")
            for key in state_dict
        ),
    )


def canonical_names(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors by the names that torchvision has today; other files come back as they are."""
    if not any(name.startswith("backbone.fpn.inner_blocks.") for name in state_dict):
        return state_dict
    # A convolution and its activation were two entries of a list, and are one today.
    old_retinanet = "head.classification_head.conv.6.weight" in state_dict and (
        _FCOS not in state_dict
    )
    return {_canonical(name, old_retinanet): tensor for name, tensor in state_dict.items()}


def _canonical(name: str, old_retinanet: bool) -> str:
    for pattern, new in _OLD_NAMES:
        match = pattern.fullmatch(name)
        if match is not None:
            return match.expand(new)
    match = _OLD_MASK_HEAD.fullmatch(name)
    if match is not None:
        return f"{match[1]}{int(match[2]) - 1}.0.{match[3]}"
    match = _OLD_RETINANET.fullmatch(name) if old_retinanet else None
    if match is not None:
        return f"{match[1]}{int(match[2]) // 2}.0.{match[3]}"
    return name


def _body(state_dict: _Tensors) -> str | None:
    if "backbone.fpn.inner_blocks.0.0.weight" not in state_dict:
        return None
    if "backbone.body.16.0.weight" in state_dict:
        return "mobilenet_v3_large"
    blocks = {name.split(".")[3] for name in state_dict if name.startswith("backbone.body.layer3.")}
    if len(blocks) == 6 and "backbone.body.layer3.0.conv3.weight" in state_dict:
        return "resnet50"
    return None


def _rows(state_dict: _Tensors, name: str) -> int:
    return state_dict[name].shape[0] if state_dict[name].ndim else 0
