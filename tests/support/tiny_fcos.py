"""A small FCOS for the shapes, as the dump of a Python config: no YAML config describes one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from tiny_training import CLASSES

_TRANSFORMS = "detectron2.data.transforms"
_RESIZE = {
    "_target_": f"{_TRANSFORMS}.ResizeShortestEdge",
    "short_edge_length": 64,
    "max_size": 128,
}
# A dump says nothing of these in the keys that a YAML config has.
TRAINING: dict[str, Any] = {
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MAX_SIZE_TRAIN": 128,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BASE_LR": 0.005,
    "SOLVER.MAX_ITER": 4,
    "SOLVER.STEPS": (3,),
    "SOLVER.WARMUP_ITERS": 2,
    "MODEL.WEIGHTS": "",
}


def training_overrides(**more: Any) -> list[str]:
    """``KEY VALUE`` pairs for a training of :data:`TRAINING`; further keys have ``__`` for ``.``."""
    keys = TRAINING | {key.replace("__", "."): value for key, value in more.items()}
    return [str(part) for pair in keys.items() for part in pair]


def write_tiny_fcos(path: Path, augmentations: Sequence[dict[str, Any]] = (_RESIZE,)) -> Path:
    """Write the dump; ``augmentations`` are those that it was trained with, see :func:`transform`."""
    loader = {
        "train": {"mapper": {"augmentations": list(augmentations), "image_format": "BGR"}},
        "test": {"mapper": {"augmentations": [_RESIZE], "image_format": "BGR"}},
    }
    path.write_text(yaml.safe_dump({"model": _model(), "dataloader": loader}))
    return path


def transform(name: str, **keywords: Any) -> dict[str, Any]:
    """One of Detectron2's transforms as a dump has it."""
    return {"_target_": f"{_TRANSFORMS}.{name}", **keywords}


def _model() -> dict[str, Any]:
    shape = {"_target_": "detectron2.layers.ShapeSpec", "channels": 8}
    stem = {"in_channels": 3, "out_channels": 4, "norm": "FrozenBN"}
    return {
        "_target_": "detectron2.modeling.FCOS",
        "backbone": {
            "_target_": "detectron2.modeling.FPN",
            "bottom_up": {
                "_target_": "detectron2.modeling.ResNet",
                "stem": {"_target_": "detectron2.modeling.backbone.BasicStem", **stem},
                "stages": [_stage(4, 8), _stage(8, 16)],
                "out_features": ["res2", "res3"],
            },
            "in_features": ["res2", "res3"],
            "out_channels": 8,
        },
        "head": {
            "_target_": "detectron2.modeling.meta_arch.fcos.FCOSHead",
            "input_shape": [shape, dict(shape)],
            "num_classes": len(CLASSES),
            "conv_dims": [8],
        },
        "num_classes": len(CLASSES),
        "pixel_mean": [103.53, 116.28, 123.675],
        "pixel_std": [60.0, 60.0, 60.0],
    }


def _stage(in_channels: int, out_channels: int) -> dict[str, Any]:
    return {
        "_target_": "detectron2.modeling.ResNet.make_stage",
        "block_class": {"_name_": "detectron2.modeling.backbone.resnet.BasicBlock"},
        "num_blocks": 1,
        "stride": 2,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "norm": "FrozenBN",
    }
