"""Weights as Caffe2 (Detectron 1, and the ImageNet backbones of its time) names and orders them.

Names become those of :class:`~models.GeneralizedRCNN` without the outer modules; the suffix rule of
:mod:`models.checkpoints.matching` finds the rest. Classes move too: Caffe2 has the background first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch

from models.errors import CheckpointError

# What training leaves in a file, classifiers of ImageNet, and the fixed weights of an interpolation.
_NOT_WEIGHTS = re.compile(
    r"__preserve__/.*|.*_momentum|lr|iter|model_iter|iteration_mutex|(fc1000|pred|kps_score)_[wb]"
)

_PARAMETERS = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"_[bg]n_(s|gamma)", ".norm.weight"),
        (r"_[bg]n_(b|beta)", ".norm.bias"),
        (r"_bn_(rm|running_mean)", ".norm.running_mean"),
        (r"_bn_(riv|running_var)", ".norm.running_var"),
        (r"_w", ".weight"),
        (r"_b", ".bias"),
    )
)

# The RPN of a pyramid is stored under the level that all others share it with.
_LAYERS = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"(res_)?conv1", "stem.conv1"),
        (r"res(\d)_(\d+)_branch1", r"res\1.\2.shortcut"),
        (r"res(\d)_(\d+)_branch2a", r"res\1.\2.conv1"),
        (r"res(\d)_(\d+)_branch2b", r"res\1.\2.conv2"),
        (r"res(\d)_(\d+)_branch2c", r"res\1.\2.conv3"),
        (r"fpn_inner_res(\d)_\d+_sum(_lateral)?", r"fpn_lateral\1"),
        (r"fpn_res(\d)_\d+_sum", r"fpn_output\1"),
        (r"conv_rpn(_fpn\d)?", "proposal_generator.rpn_head.conv"),
        (r"rpn_cls_logits(_fpn\d)?", "proposal_generator.rpn_head.objectness_logits"),
        (r"rpn_bbox_pred(_fpn\d)?", "proposal_generator.rpn_head.anchor_deltas"),
        (r"head_conv(\d+)", r"box_head.conv\1"),
        (r"fc6", "box_head.fc1"),
        (r"fc7", "box_head.fc2"),
        (r"cls_score", "cls_score"),
        (r"bbox_pred", "bbox_pred"),
        (r"_(?:\[mask\]|mask)_fcn(\d+)", r"mask_head.mask_fcn\1"),
        (r"conv5_mask", "mask_head.deconv"),
        (r"mask_fcn_logits", "mask_head.predictor"),
        (r"conv_fcn(\d+)", r"keypoint_head.conv_fcn\1"),
        (r"kps_score_lowres", "keypoint_head.score_lowres"),
    )
)


def looks_like_caffe2(names: Iterable[object]) -> bool:
    """Whether a file with these names at its top level was written by Caffe2."""
    texts = [name for name in names if isinstance(name, str)]
    if "blobs" in texts:
        return True
    dotted = any("." in name for name in texts)
    return not dotted and any(name.endswith(("_w", "_bn_s")) for name in texts)


def is_weight(name: str) -> bool:
    """Whether a blob of this name belongs to the network, as the solver's state does not."""
    return _NOT_WEIGHTS.fullmatch(name) is None


def convert_name(name: str) -> str:
    """``res2_0_branch2a_bn_s`` -> ``res2.0.conv1.norm.weight``; an unknown name stays as it is."""
    for parameter, suffix in _PARAMETERS:
        match = re.fullmatch(rf"(?P<layer>.+?){parameter.pattern}", name)
        if match is None:
            continue
        for layer, replacement in _LAYERS:
            found = layer.fullmatch(match["layer"])
            if found is not None:
                return found.expand(replacement) + suffix
    return name


def convert(blobs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a Caffe2 file by our (short) names, with classes in our order.

    Raises:
        CheckpointError: two blobs have the same meaning, or one has no row for the background.
    """
    converted: dict[str, torch.Tensor] = {}
    origins: dict[str, str] = {}
    for blob, tensor in blobs.items():
        # A convolution before a norm has no bias; the old ResNet-50 files carry one all the same.
        if not is_weight(blob) or (blob == "conv1_b" and "res_conv1_bn_s" in blobs):
            continue
        name = convert_name(blob)
        if name in converted:
            raise CheckpointError(
                f"Its blobs {origins[name]} and {blob} are both {name}; keep one of them."
            )
        converted[name] = _reorder_classes(name, blob, tensor)
        origins[name] = blob
    return converted


def _reorder_classes(name: str, blob: str, tensor: torch.Tensor) -> torch.Tensor:
    """The background's row goes last in the classifier and is dropped where nothing uses it."""
    layer = name.rpartition(".")[0]
    rows = tensor.shape[0] if tensor.ndim else 0
    if layer == "cls_score":
        _check_rows(blob, rows, 1)
        return torch.cat([tensor[1:], tensor[:1]])
    if layer == "bbox_pred":
        _check_rows(blob, rows, 4)
        return tensor[4:].clone()
    if layer == "mask_head.predictor" and rows != 1:  # one row serves all classes
        _check_rows(blob, rows, 1)
        return tensor[1:].clone()
    return tensor


def _check_rows(blob: str, rows: int, per_class: int) -> None:
    if rows < 2 * per_class or rows % per_class:
        raise CheckpointError(
            f"Its blob {blob} has {rows} rows, which are no background and classes of {per_class} "
            f"row{'s' if per_class > 1 else ''} each."
        )
