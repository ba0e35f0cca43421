"""From the call tree of a lazy config to a model: only what is listed here can be called.

The tree names Detectron2's classes; the table says which of ours stands for each. Detectron2 dumps
the shortest path that a class can be imported by, so ``detectron2.modeling.backbone.fpn.FPN`` also
goes by ``detectron2.modeling.backbone.FPN`` and ``detectron2.modeling.FPN``.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from models.config.lazy_tags import NAME_KEY, TARGET_KEY
from models.errors import ConfigError

# Module of Detectron2 below "detectron2." -> module of ours below "models." and the names there.
_TABLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "layers.shape_spec": ("layers", ("ShapeSpec",)),
    "modeling.anchor_generator": ("proposals", ("DefaultAnchorGenerator",)),
    "modeling.backbone.fpn": ("backbones", ("FPN", "LastLevelMaxPool", "LastLevelP6P7")),
    "modeling.backbone.regnet": (
        "backbones.regnet",
        ("RegNet", "ResBottleneckBlock", "SimpleStem"),
    ),
    "modeling.backbone.resnet": (
        "backbones",
        (
            "BasicBlock",
            "BasicStem",
            "BottleneckBlock",
            "DeformBottleneckBlock",
            "ResNet",
            "ResNet.make_default_stages",
            "ResNet.make_stage",
        ),
    ),
    "modeling.box_regression": (
        "box_regression",
        ("Box2BoxTransform", "Box2BoxTransformLinear"),
    ),
    "modeling.matcher": ("matcher", ("Matcher",)),
    "modeling.meta_arch.fcos": ("architectures.fcos", ("FCOS", "FCOSHead")),
    "modeling.meta_arch.panoptic_fpn": ("architectures", ("PanopticFPN",)),
    "modeling.meta_arch.rcnn": ("architectures", ("GeneralizedRCNN", "ProposalNetwork")),
    "modeling.meta_arch.retinanet": ("architectures.retinanet", ("RetinaNet", "RetinaNetHead")),
    "modeling.meta_arch.semantic_seg": ("heads", ("SemSegFPNHead",)),
    "modeling.poolers": ("poolers", ("ROIPooler",)),
    "modeling.proposal_generator.rpn": ("proposals", ("RPN", "StandardRPNHead")),
    "modeling.roi_heads.box_head": ("heads", ("FastRCNNConvFCHead",)),
    "modeling.roi_heads.cascade_rcnn": ("heads", ("CascadeROIHeads",)),
    "modeling.roi_heads.fast_rcnn": ("heads", ("FastRCNNOutputLayers",)),
    "modeling.roi_heads.keypoint_head": ("heads", ("KRCNNConvDeconvUpsampleHead",)),
    "modeling.roi_heads.mask_head": ("heads", ("MaskRCNNConvUpsampleHead",)),
    "modeling.roi_heads.roi_heads": ("heads", ("Res5ROIHeads", "StandardROIHeads")),
}


def _allowed() -> dict[str, tuple[str, str]]:
    """Every accepted path -> (our module, the name in it)."""
    table: dict[str, tuple[str, str]] = {}
    for module, (ours, names) in _TABLE.items():
        packages = f"detectron2.{module}".split(".")
        for name in names:
            for depth in range(2, len(packages) + 1):
                table[".".join((*packages[:depth], name))] = (f"models.{ours}", name)
    return table


_ALLOWED = _allowed()

_MMDET = {
    f"detectron2.modeling{module}.{name}"
    for module in ("", ".mmdet_wrapper")
    for name in ("MMDetBackbone", "MMDetDetector")
}


def build_lazy_model(tree: Mapping[str, Any]) -> nn.Module:
    """The model that the call tree of a lazy config describes, without weights.

    Args:
        tree: what ``load_config`` keeps under ``LAZY_MODEL``.

    Raises:
        ConfigError: the tree names something that is not allowed, or its parts do not fit together.
    """
    model = instantiate(tree)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model._target_ makes a {type(model).__name__}, which is no model.")
    return model


def instantiate(tree: Any, path: str = "model") -> Any:
    """Calls what ``tree`` says, innermost first.

    Args:
        tree: a mapping with ``_target_`` is a call with its other keys as keywords, one with
            ``_name_`` stands for the thing of that name; other mappings and lists are followed,
            other values stay as they are.
        path: where the tree stands in the config, for messages.

    Raises:
        ConfigError: a name is not allowed, or a call is refused; says which, where and why.
    """
    if isinstance(tree, list | tuple):
        return [instantiate(item, f"{path}[{i}]") for i, item in enumerate(tree)]
    if not isinstance(tree, Mapping):
        return tree
    if NAME_KEY in tree:
        return _look_up(tree[NAME_KEY], path)
    keywords = {
        key: instantiate(value, f"{path}.{key}") for key, value in tree.items() if key != TARGET_KEY
    }
    if TARGET_KEY not in tree:
        return keywords
    target = tree[TARGET_KEY]
    component = _look_up(target, path)
    try:
        return component(**keywords)
    except ConfigError as error:
        if "path" in error.details:  # it says already which inner call it was
            raise
        raise ConfigError(f"{path}: {error.message}", path=path, **error.details) from None
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        reason = f"it takes {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(
            f"{path}: {target} cannot be made from these keywords: {reason}.",
            path=path,
            target=target,
        ) from error


def _look_up(target: Any, path: str) -> Any:
    """Our component for one of Detectron2's names."""
    known = _ALLOWED.get(target) if isinstance(target, str) else None
    if known is None and isinstance(target, str) and target in _MMDET:
        raise ConfigError(
            f"{path}: {target} would hand the config to mmdetection, which can then make anything, so "
            "a file may not name it; nothing was imported or called. Build the module in Python and "
            "register it (BACKBONE_REGISTRY, META_ARCH_REGISTRY).",
            path=path,
            target=target,
        )
    if known is None:
        close = difflib.get_close_matches(str(target), _ALLOWED, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"{path}: {target!r} is none of the components that a lazy config may name here; "
            f"nothing was imported or called.{hint}",
            path=path,
            target=str(target),
        )
    module, name = known
    try:
        component: Any = importlib.import_module(module)
        for part in name.split("."):
            component = getattr(component, part)
    except (ImportError, AttributeError):
        raise ConfigError(f"{path}: {target} is not supported.", path=path, target=target) from None
    return component
