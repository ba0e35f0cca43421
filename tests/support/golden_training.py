"""Golden training steps: what Detectron2's losses and gradients are, and how ours are computed.

Each folder of ``data/golden/training`` holds a config and one forward and backward pass in training
mode, with the deterministic weights and the pictures of :mod:`golden`. Samples are so large that
everything is sampled: no loss depends on chance.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import torch
from golden import GOLDEN
from numpy.typing import NDArray
from PIL import Image
from seeded_weights import seeded_state
from torch import Tensor

from models import BitMasks, Boxes, Instances, build_model, load_config
from models.structures import Keypoints
from models.transforms import resize_image, resized_size

TRAINING = GOLDEN / "training"
TRAINING_CASES = sorted(path.parent.name for path in TRAINING.glob("*/expected.json"))


@dataclass
class TrainingRun:
    """Detectron2's training step and ours, of one folder."""

    expected: dict[str, Any]
    losses: dict[str, float]
    gradient_norms: dict[str, float]  # of all parameters that learn
    frozen_parameter_count: int


def run_training_case(
    name: str, dtype: torch.dtype = torch.float64, device: str = "cpu"
) -> TrainingRun:
    """One step of the model of a folder; float32 leaves a thousandth of a norm to chance."""
    expected = json.loads((TRAINING / name / "expected.json").read_text())
    path = TRAINING / name / "config.yaml"
    if not path.exists():  # FCOS: the folder of its inference has it
        path = GOLDEN / name / "config.yaml"
    cfg = load_config(path)
    model: Any = build_model(cfg)
    seeded = seeded_state(model, expected["seed"], expected["stem_gain"])
    model.load_state_dict(seeded, strict=False)
    model.to(device, dtype).train()
    losses: dict[str, Tensor] = model(training_inputs(expected))
    sum(losses.values(), torch.zeros(())).backward()
    learning = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert [key for key, p in learning.items() if p.grad is None] == []
    return TrainingRun(
        expected,
        {key: float(loss.detach()) for key, loss in losses.items()},
        {key: float(p.grad.norm()) for key, p in learning.items()},
        sum(not p.requires_grad for p in model.parameters()),
    )


def training_inputs(expected: dict[str, Any]) -> list[dict[str, Any]]:
    """What a case's model learns from: BGR images, resized, with all ground truth that there is."""
    inputs = []
    for file_name, truth in zip(expected["images"], expected["ground_truth"], strict=True):
        rgb = np.asarray(Image.open(GOLDEN / file_name).convert("RGB"))
        size = resized_size(*rgb.shape[:2], expected["min_size"], expected["max_size"])
        assert size == (truth["height"], truth["width"])
        bgr = resize_image(rgb, *size)[:, :, ::-1]
        one: dict[str, Any] = {
            "image": torch.from_numpy(np.ascontiguousarray(bgr.transpose(2, 0, 1))),
            "height": rgb.shape[0],
            "width": rgb.shape[1],
        }
        objects = truth["objects"]
        frames = np.stack([mask_api.decode(found["mask"]) for found in objects]).astype(bool)
        classes = [found["class"] for found in objects]
        one["instances"] = Instances(
            size,
            gt_boxes=Boxes(torch.tensor([found["box"] for found in objects])),
            gt_classes=torch.tensor(classes),
            gt_masks=BitMasks(torch.from_numpy(frames)),
            gt_keypoints=Keypoints(torch.tensor([found["keypoints"] for found in objects])),
        )
        if "sem_seg" in truth:
            one["sem_seg"] = torch.from_numpy(painted(frames, classes))
        inputs.append(one)
    return inputs


def painted(frames: NDArray[np.bool_], classes: list[int]) -> NDArray[np.int64]:
    """The semantic ground truth as the golden files describe it."""
    labels = np.zeros(frames.shape[1:], dtype=np.int64)
    for frame, class_id in zip(frames, classes, strict=True):
        labels[frame] = 1 + class_id % 53
    labels[:4] = 255
    return labels
