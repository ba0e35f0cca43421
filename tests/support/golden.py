"""Golden answers: Detectron2's own, and how ours are compared with them.

Each folder of ``data/golden`` holds a config and what Detectron2 computed with deterministic
weights; ``seeded_state`` makes those weights again from the names and shapes of the parameters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import torch
from numpy.typing import NDArray
from PIL import Image
from seeded_weights import NOT_SEEDED, seeded_state
from torch import Tensor

from models import Instances, Predictor, build_model, load_config
from models.execution import ExecutionPlan, Mode
from models.structures import Boxes, RotatedBoxes, pairwise_iou, pairwise_iou_rotated
from models.test_time_augmentation import GeneralizedRCNNWithTTA
from models.transforms import resize_image, resized_size

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.json"))


@dataclass
class GoldenRun:
    """Detectron2's answer and ours for one folder."""

    name: str
    expected: dict[str, Any]
    parameters: dict[str, list[int]]
    features: dict[str, Tensor]
    proposals: list[Instances]  # of the generator; empty where there is none
    outputs: list[dict[str, Any]]
    plan: ExecutionPlan

    @property
    def instances(self) -> list[Instances]:
        """Per image its instances."""
        return [output["instances"] for output in self.outputs]


def run_case(
    name: str, *, images: int | None = None, device: str = "cpu", mode: Mode = "reference"
) -> GoldenRun:
    """Build the model of a folder, seed it, and run both images in one batch as Detectron2 did.

    With test-time augmentation the images go in one by one at their own size; then, and only then,
    ``images`` can be 1: the second one is left out.
    """
    folder = GOLDEN / name
    expected = json.loads((folder / "expected.json").read_text())
    if images is not None:
        assert expected["tta"], "a batch is not to be cut: its images share their padding"
        expected["images"] = expected["images"][:images]
        expected["outputs"] = expected["outputs"][:images]
    cfg = load_config(folder / "config.yaml")
    model: Any = build_model(cfg)
    seeded = seeded_state(model, expected["seed"], expected["stem_gain"])
    model.load_state_dict(seeded, strict=False)
    parameters = {
        key: list(value.shape)
        for key, value in model.state_dict().items()
        if not any(part in key for part in NOT_SEEDED)
    }
    plan = Predictor(model.to(device), cfg, mode=mode).plan
    inputs = golden_inputs(expected)
    features: dict[str, Tensor] = {}
    proposals: list[Instances] = []
    if expected["tta"]:
        model_that_runs: Any = GeneralizedRCNNWithTTA(cfg, model)
    else:
        model_that_runs = model
        model.backbone.register_forward_hook(lambda _, __, output: features.update(output))
        generator = getattr(model, "proposal_generator", None)
        if generator is not None:
            generator.register_forward_hook(lambda _, __, output: proposals.extend(output[0]))
    with torch.inference_mode():
        outputs = model_that_runs(inputs)
    return GoldenRun(
        name,
        expected,
        parameters,
        {key: value.cpu() for key, value in features.items()},
        [found.to("cpu") for found in proposals],
        [_on_cpu(output) for output in outputs],
        plan,
    )


def _on_cpu(output: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (value[0].cpu(), value[1]) if name == "panoptic_seg" else value.to("cpu")
        for name, value in output.items()
    }


def golden_inputs(expected: dict[str, Any]) -> list[dict[str, Any]]:
    """What a case's model gets: BGR images, resized, and proposals where they come with the input."""
    inputs = []
    for i, file_name in enumerate(expected["images"]):
        rgb = np.asarray(Image.open(GOLDEN / file_name).convert("RGB"))
        height, width = rgb.shape[:2]
        size = (height, width)
        if not expected["tta"]:
            size = resized_size(*size, expected["min_size_test"], expected["max_size_test"])
        bgr = resize_image(rgb, *size)[:, :, ::-1]
        image = torch.from_numpy(np.ascontiguousarray(bgr.transpose(2, 0, 1)))
        one: dict[str, Any] = {"image": image, "height": height, "width": width}
        if "proposals" in expected:
            given = expected["proposals"][i]
            one["proposals"] = Instances(
                size,
                proposal_boxes=Boxes(torch.tensor(given["proposal_boxes"])),
                objectness_logits=torch.tensor(given["objectness_logits"]),
            )
        inputs.append(one)
    return inputs


@dataclass
class Differences:
    """The worst differences of what was compared, and what broke a rule.

    A share is None, and a number as good as can be, where there was nothing of its kind.
    """

    clear: int = 0
    matched: int = 0
    worst_box: float = 0.0
    worst_score: float = 0.0
    worst_mask_iou: float = 1.0
    unmatched: list[str] = field(default_factory=list)
    has_masks: bool = False
    keypoints: int = 0
    keypoints_close: int = 0
    worst_proposal_iou: float | None = None
    worst_sem_seg: float | None = None
    worst_panoptic: float | None = None
    worst_feature: float | None = None  # in standard deviations of the feature
    broken: list[str] = field(default_factory=list)

    def add(self, other: Differences) -> None:
        """Take the differences of another image in."""
        self.clear += other.clear
        self.matched += other.matched
        self.worst_box = max(self.worst_box, other.worst_box)
        self.worst_score = max(self.worst_score, other.worst_score)
        self.worst_mask_iou = min(self.worst_mask_iou, other.worst_mask_iou)
        self.unmatched += other.unmatched
        self.has_masks |= other.has_masks
        self.keypoints += other.keypoints
        self.keypoints_close += other.keypoints_close
        for name, worse in (
            ("worst_proposal_iou", min),
            ("worst_sem_seg", min),
            ("worst_panoptic", min),
            ("worst_feature", max),
        ):
            known = [v for v in (getattr(self, name), getattr(other, name)) if v is not None]
            setattr(self, name, worse(known, default=None))
        self.broken += other.broken


def compare_run(run: GoldenRun) -> Differences:
    """Everything that a folder holds, by the rules of the golden answers; see ``broken``."""
    total = Differences()
    if run.parameters != run.expected["parameters"]:
        total.broken.append("names or shapes of parameters")
    total.add(compare_features(run))
    compared = {
        "instances": compare_instances,
        "proposals": compare_proposals,
        "sem_seg": lambda expected, ours: compare_sem_seg(expected, ours, GOLDEN / run.name),
        "panoptic_seg": lambda expected, ours: compare_panoptic(expected, ours, GOLDEN / run.name),
    }
    for i, (expected, ours) in enumerate(zip(run.expected["outputs"], run.outputs, strict=True)):
        kinds = set(expected) - {"rpn"}
        if kinds != set(ours):
            total.broken.append(f"outputs {sorted(ours)} instead of {sorted(kinds)}")
        for kind in sorted(kinds & set(ours)):
            total.add(compared[kind](expected[kind], ours[kind]))
        # Detectron2 rescales a proposal network's proposals in place: its "rpn" are "proposals" again.
        if "rpn" in expected and "proposals" not in kinds:
            total.add(compare_proposals(expected["rpn"], run.proposals[i]))
    if total.matched < 0.99 * total.clear:
        total.broken.append(f"{len(total.unmatched)} of {total.clear} instances: {total.unmatched}")
    return total


def compare_features(run: GoldenRun) -> Differences:
    """Sampled values and the mean of each backbone output, within a thousandth of its deviation."""
    result = Differences()
    expected = run.expected.get("features", {})
    if not run.expected["tta"] and list(run.features) != list(expected):
        result.broken.append(f"features {list(run.features)} instead of {list(expected)}")
    for name, feature in run.features.items():
        wanted = expected[name]
        if list(feature.shape) != wanted["shape"]:
            result.broken.append(f"shape of {name}")
            continue
        sampled = feature.flatten()[wanted["index"]] - torch.tensor(wanted["value"])
        worst = max(float(sampled.abs().max()), abs(float(feature.mean()) - wanted["mean"]))
        worst /= wanted["std"]
        result.worst_feature = max(result.worst_feature or 0.0, worst)
        if worst > 1e-3:
            result.broken.append(f"feature {name} differs by {worst:.1e} deviations")
    return result


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


def compare_proposals(expected: dict[str, Any], ours: Instances) -> Differences:
    """As many proposals, and for each one that is written down one of ours with IoU >= 0.99.

    The nearest one has its objectness logit, within 1e-3.
    """
    result = Differences()
    if len(ours) != expected["count"]:
        result.broken.append(f"{len(ours)} proposals instead of {expected['count']}")
    best = box_overlaps(expected["proposal_boxes"], ours.proposal_boxes).amax(dim=1)
    result.worst_proposal_iou = float(best.min())
    if result.worst_proposal_iou < 0.99:
        result.broken.append(f"a proposal overlaps ours by {result.worst_proposal_iou} only")
        return result
    nearest = box_differences(expected["proposal_boxes"], ours.proposal_boxes).argmin(dim=1)
    logits = ours.objectness_logits[nearest] - torch.tensor(expected["objectness_logits"])
    if float(logits.abs().max()) > 1e-3:
        result.broken.append("objectness logits")
    return result


def compare_instances(expected: dict[str, Any], ours: Instances) -> Differences:
    """Match our instances to Detectron2's clear ones.

    A partner has the same class, IoU >= 0.99 (or all coordinates within 0.1 pixels), a score within
    1e-3, mask IoU >= 0.99 and 90 % of the keypoints within 0.5 pixels. Rotated boxes match by
    coordinates alone: within 0.1 pixels and 0.1 degrees.

    Clear is what scores above the smallest expected score + 1e-4: what lies below may have been cut
    off elsewhere by a difference in the order of sums.
    """
    result = Differences(has_masks="pred_masks" in expected)
    if "image_size" in expected and list(ours.image_size) != expected["image_size"]:
        result.broken.append(f"image size {ours.image_size} instead of {expected['image_size']}")
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
        best: tuple[float, float, int] | None = None
        for j in candidates.nonzero().flatten().tolist():
            iou, near = 1.0, 1.0
            if "pred_masks" in expected:
                frame = mask_api.decode(expected["pred_masks"][i]).astype(bool)
                iou = mask_iou(frame, ours.pred_masks[j].numpy())
            if "pred_keypoints" in expected:
                near = float(
                    _near_keypoints(expected["pred_keypoints"][i], ours, j).double().mean()
                )
            if iou >= 0.99 and near >= 0.9 and (best is None or (iou, near) > best[:2]):
                best = (iou, near, j)
        if best is None:
            result.unmatched.append(f"#{i} class {expected['pred_classes'][i]} score {score}")
            continue
        iou, _, j = best
        result.matched += 1
        result.worst_box = max(result.worst_box, float(box_difference[i, j]))
        result.worst_score = max(result.worst_score, abs(float(ours.scores[j]) - score))
        result.worst_mask_iou = min(result.worst_mask_iou, iou)
        if "pred_keypoints" in expected:
            near_keypoints = _near_keypoints(expected["pred_keypoints"][i], ours, j)
            result.keypoints += len(near_keypoints)
            result.keypoints_close += int(near_keypoints.sum())
    return result


def _near_keypoints(expected: list[list[float]], ours: Instances, j: int) -> Tensor:
    """(K,) bool: within half a pixel, x and y."""
    difference = torch.tensor(expected)[:, :2] - ours.pred_keypoints[j, :, :2]
    return difference.abs().amax(dim=1) <= 0.5


def compare_sem_seg(expected: dict[str, Any], ours: Tensor, folder: Path) -> Differences:
    """The best class of a pixel is equal on 99.8 % of them, the sampled logits within 1e-3."""
    result = Differences()
    if list(ours.shape) != expected["shape"]:
        result.broken.append(f"sem_seg of shape {list(ours.shape)}, not {expected['shape']}")
        return result
    best = np.asarray(Image.open(folder / expected["argmax_png"]))
    result.worst_sem_seg = float((ours.argmax(dim=0).numpy() == best).mean())
    if result.worst_sem_seg < 0.998:
        result.broken.append(f"semantic classes are equal on {result.worst_sem_seg:.4f} only")
    sampled = ours.flatten()[expected["index"]] - torch.tensor(expected["value"])
    if float(sampled.abs().max()) > 1e-3 * expected["std"]:
        result.broken.append("semantic logits")
    return result


def compare_panoptic(
    expected: dict[str, Any], ours: tuple[Tensor, list[dict[str, Any]]], folder: Path
) -> Differences:
    """The same segments in the same order, and the segment of a pixel equal on 99 % of them."""
    segments, found = ours
    same = (segments.numpy() == np.asarray(Image.open(folder / expected["png"]))).mean()
    result = Differences(worst_panoptic=float(same))
    if same < 0.99:
        result.broken.append(f"panoptic segments are equal on {same:.4f} only")
    keys = ("id", "isthing", "category_id")
    facts = [
        [tuple(int(segment[key]) for key in keys) for segment in info]
        for info in (found, expected["segments_info"])
    ]
    if facts[0] != facts[1]:
        result.broken.append("panoptic segments are not the same")
    return result
