"""Golden answers: Detectron2's own, and how ours are compared with them.

Each folder of ``data/golden`` holds a config and what Detectron2 computed with deterministic
weights; ``seeded_state`` makes those weights again from the names and shapes of the parameters.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from models import Instances, build_model, load_config
from models.structures import Boxes, RotatedBoxes, pairwise_iou, pairwise_iou_rotated
from models.transforms import resize_image, resized_size

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
NOT_SEEDED = ("anchor_generator.", "pixel_mean", "pixel_std", "num_batches_tracked")


def _gain(name: str, stem_gain: float) -> float:
    """Variance gain of a weight by its place: keeps activations sane and detections diverse."""
    for part, gain in (
        ("stem", stem_gain),
        ("anchor_deltas", 0.0005),
        ("head.bbox_pred", 0.0005),
        ("bbox_pred", 0.05),
        ("objectness", 0.25),
        ("head.cls_score", 0.08),
        ("cls_score", 0.5),
        ("conv_offset", 0.05),
    ):
        if part in name:
            return gain
    return 2.0


def seeded_tensor(
    name: str, shape: torch.Size, seed: int, stem_gain: float, damped: bool
) -> Tensor:
    """One float32 tensor that depends on its name and shape alone."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"{seed}:{name}".encode())))
    x = rng.standard_normal(size=tuple(shape))
    last = name.rsplit(".", 1)[-1]
    if last == "running_mean":
        x = 0.1 * x
    elif last == "running_var":
        x = 0.75 + 0.5 * np.abs(np.tanh(x))
    elif len(shape) == 1 and last == "weight":
        x = (0.2 if damped else 1.0) * (1.0 + 0.1 * np.tanh(x))
    elif len(shape) == 1:
        x = 0.05 * x
    else:
        fan_in = int(np.prod(shape[1:]))
        if "deconv" in name:
            fan_in = int(shape[0] * np.prod(shape[2:])) // 4
        x = x * np.sqrt(_gain(name, stem_gain) / max(fan_in, 1))
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def seeded_state(model: nn.Module, seed: int, stem_gain: float) -> dict[str, Tensor]:
    """Deterministic values for every floating-point tensor of ``model``."""
    state = model.state_dict()
    seeded = {}
    for name, value in state.items():
        if any(part in name for part in NOT_SEEDED) or not torch.is_floating_point(value):
            continue
        last_of_basic = (
            "conv2.norm" in name and name.replace("conv2.norm", "conv3.norm") not in state
        )
        damped = "conv3.norm" in name or "f.c_bn" in name or last_of_basic
        seeded[name] = seeded_tensor(name, value.shape, seed, stem_gain, damped)
    return seeded


@dataclass
class GoldenRun:
    """Detectron2's answer and ours for one folder."""

    expected: dict[str, Any]
    parameters: dict[str, list[int]]
    features: dict[str, Tensor]
    proposals: list[Instances]
    instances: list[Instances]


def run_case(name: str) -> GoldenRun:
    """Build the model of a folder, seed it, and run both images in one batch as Detectron2 did."""
    folder = GOLDEN / name
    expected = json.loads((folder / "expected.json").read_text())
    model: Any = build_model(load_config(folder / "config.yaml"))
    model.load_state_dict(
        seeded_state(model, expected["seed"], expected["stem_gain"]), strict=False
    )
    inputs = []
    for file_name in expected["images"]:
        rgb = np.asarray(Image.open(GOLDEN / file_name).convert("RGB"))
        height, width = rgb.shape[:2]
        size = resized_size(height, width, expected["min_size_test"], expected["max_size_test"])
        bgr = resize_image(rgb, *size)[:, :, ::-1]
        tensor = torch.from_numpy(np.ascontiguousarray(bgr.transpose(2, 0, 1)))
        inputs.append({"image": tensor, "height": height, "width": width})
    features: dict[str, Tensor] = {}
    proposals: list[Instances] = []
    model.backbone.register_forward_hook(lambda _, __, output: features.update(output))
    model.proposal_generator.register_forward_hook(lambda _, __, out: proposals.extend(out[0]))
    with torch.inference_mode():
        instances = [answer["instances"] for answer in model(inputs)]
    parameters = {
        name: list(value.shape)
        for name, value in model.state_dict().items()
        if not any(part in name for part in NOT_SEEDED)
    }
    return GoldenRun(expected, parameters, features, proposals, instances)


@dataclass
class Differences:
    """The worst differences of matched instances, and those that found no partner."""

    clear: int = 0
    matched: int = 0
    worst_box: float = 0.0
    worst_score: float = 0.0
    worst_mask_iou: float = 1.0
    unmatched: list[str] = field(default_factory=list)


def mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union of two frames; 1 when both are empty."""
    union = np.logical_or(first, second).sum()
    return float(np.logical_and(first, second).sum() / union) if union else 1.0


def box_overlaps(expected: list[list[float]], ours: Boxes | RotatedBoxes) -> Tensor:
    """IoU of expected boxes, XYXY or XYWHA as ours are, with ours: (E, R)."""
    if isinstance(ours, RotatedBoxes):
        return pairwise_iou_rotated(RotatedBoxes(torch.tensor(expected)), ours)
    return pairwise_iou(Boxes(torch.tensor(expected)), ours)


def box_differences(expected: list[list[float]], ours: Boxes | RotatedBoxes) -> Tensor:
    """Largest coordinate differences (E, R), in pixels; of rotated boxes also in degrees."""
    differences = (type(ours)(torch.tensor(expected)).tensor[:, None] - ours.tensor[None]).abs()
    if isinstance(ours, RotatedBoxes):
        turns = differences[..., 4] % 360
        differences[..., 4] = torch.minimum(turns, 360 - turns)
    return differences.amax(dim=2)


def compare_instances(expected: dict[str, Any], ours: Instances) -> Differences:
    """Match our instances to Detectron2's clear ones: class, IoU >= 0.99, score within 1e-3, mask.

    Rotated boxes match by coordinates alone: within 0.1 pixels and 0.1 degrees.

    Clear is what scores above the smallest expected score + 1e-4: what lies below may have been cut
    off elsewhere by a difference in the order of sums.
    """
    result = Differences()
    scores = expected["scores"]
    if not scores:
        return result
    floor = min(scores) + 1e-4
    box_difference = box_differences(expected["pred_boxes"], ours.pred_boxes)
    close = box_difference <= 0.1
    if not isinstance(ours.pred_boxes, RotatedBoxes):
        close |= box_overlaps(expected["pred_boxes"], ours.pred_boxes) >= 0.99
    for i, score in enumerate(scores):
        if score <= floor:
            continue
        result.clear += 1
        candidates = (
            close[i]
            & (ours.pred_classes == expected["pred_classes"][i])
            & ((ours.scores - score).abs() <= 1e-3)
        )
        best: tuple[float, int] | None = None
        for j in candidates.nonzero().flatten().tolist():
            iou = 1.0
            if "pred_masks" in expected:
                frame = mask_api.decode(expected["pred_masks"][i]).astype(bool)
                iou = mask_iou(frame, ours.pred_masks[j].numpy())
            if iou >= 0.99 and (best is None or iou > best[0]):
                best = (iou, j)
        if best is None:
            result.unmatched.append(f"#{i} class {expected['pred_classes'][i]} score {score}")
            continue
        iou, j = best
        result.matched += 1
        result.worst_box = max(result.worst_box, float(box_difference[i, j]))
        result.worst_score = max(result.worst_score, abs(float(ours.scores[j]) - score))
        result.worst_mask_iou = min(result.worst_mask_iou, iou)
    return result
