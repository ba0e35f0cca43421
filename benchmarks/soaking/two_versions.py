"""A model repository with two versions of the embedded shapes model, whose boxes differ by pixels."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from service.repository.disk.manifest import Manifest
from service.settings import PRETRAINED
from soaking.run import Picture

MODEL = "shapes"
LABELS = ("1", "2")

_BIAS = "roi_heads.box_predictor.bbox_pred.bias"
# Deltas are (dx, dy, dw, dh) in units of the box, times the weights (10, 10, 5, 5) of its regression:
# 4 % of a side to the right and down, and sides 8 % longer.
_SHIFT = (0.4, 0.4, 0.4, 0.4)


def make_repository(root: Path) -> None:
    """Write ``root/shapes/1``, the model as it is, and ``root/shapes/2``, whose boxes are shifted."""
    for label in LABELS:
        folder = root / MODEL / label
        folder.mkdir(parents=True)
        for name in ("config.yaml", "labels.txt", "model_final.pth"):
            shutil.copy(PRETRAINED / name, folder)
        if label != LABELS[0]:
            _shift_boxes(folder / "model_final.pth")
        Manifest.of(folder).write(folder)


def _shift_boxes(weights: Path) -> None:
    checkpoint = torch.load(weights, weights_only=True, map_location="cpu")
    bias = checkpoint["model"][_BIAS]  # (4 * classes,), the deltas of a class side by side
    checkpoint["model"][_BIAS] = bias + torch.tensor(_SHIFT, dtype=bias.dtype).repeat(
        len(bias) // 4
    )
    torch.save(checkpoint, weights)


def load_pictures(folder: Path, number: int) -> list[Picture]:
    """``number`` JPEGs of ``folder``, spread evenly over their names; sizes differ as they come."""
    files = sorted(folder.glob("*.jpg"))
    chosen = files[:: max(1, len(files) // number)][:number]
    return [Picture(file.name, file.read_bytes()) for file in chosen]
