"""A training that takes a second: a plain pyramid on a few pictures of shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shapes_data import make_shapes
from tiny_models import TINY

from models.config import Config, default_config
from models.evaluation import CocoDataset
from models.training.data.dataset import TrainingDataset

CLASSES = ("disc", "rectangle", "triangle", "star")

_TRAINING: dict[str, Any] = {
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MAX_SIZE_TRAIN": 128,
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MAX_SIZE_TEST": 128,
    "INPUT.MASK_FORMAT": "bitmask",
    "MODEL.MASK_ON": True,
    "MODEL.ROI_HEADS.NUM_CLASSES": len(CLASSES),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 60,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
    "MODEL.WEIGHTS": "",
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BASE_LR": 0.005,
    "SOLVER.MAX_ITER": 6,
    "SOLVER.STEPS": (4,),
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.CHECKPOINT_PERIOD": 3,
}


def tiny_training_config(changes: Mapping[str, Any] | None = None) -> Config:
    """A Mask R-CNN for :data:`CLASSES` with six iterations of two pictures."""
    cfg = default_config()
    for key, value in {**TINY, **_TRAINING, **(changes or {})}.items():
        cfg = cfg.override(key, value)
    return cfg


def tiny_shapes(folder: Path, count: int = 6, seed: int = 1, name: str = "train") -> Path:
    """The JSON of ``count`` pictures, which lie beside it."""
    return make_shapes(count, folder, seed, name)


def tiny_train_set(folder: Path, count: int = 6) -> TrainingDataset:
    """Pictures to learn from."""
    return TrainingDataset.load(tiny_shapes(folder, count))


def tiny_val_set(folder: Path, count: int = 2) -> CocoDataset:
    """Pictures to judge by."""
    return CocoDataset.load(tiny_shapes(folder, count, seed=2, name="val"))
