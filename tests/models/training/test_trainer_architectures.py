"""Each architecture, stopped and resumed, ends with the bits of an uninterrupted training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from annotated_shapes import annotated_shapes, label_maps
from interrupted_training import assert_same_end, train_whole_and_in_parts
from tiny_fcos import training_overrides, write_tiny_fcos
from tiny_training import CLASSES, tiny_training_config

from models import load_config
from models.config import Config
from models.evaluation import SemanticDataset
from models.training import Trainer, TrainingOptions
from models.training.trainer import Watcher

ITERATIONS, STOP = 4, 2
BOX = "MODEL.ROI_BOX_HEAD"
# A ResNet of one channel per group: real blocks, of which C4's heads take the last stage.
SMALL_RESNET = {
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 4,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 4,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 1,
}
MODELS: dict[str, dict[str, Any]] = {
    "retinanet": {
        "MODEL.META_ARCHITECTURE": "RetinaNet",
        "MODEL.MASK_ON": False,
        "MODEL.RETINANET.NUM_CLASSES": len(CLASSES),
    },
    "keypoints": {
        "MODEL.MASK_ON": False,
        "MODEL.KEYPOINT_ON": True,
        "MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE": 1,
    },
    "panoptic": {
        "MODEL.META_ARCHITECTURE": "PanopticFPN",
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": len(CLASSES) + 1,
    },
    "c4 with batch norm": {
        **SMALL_RESNET,
        "MODEL.RESNETS.NORM": "BN",  # its running statistics are a part of the state too
        "MODEL.RESNETS.OUT_FEATURES": ["res4"],
        "MODEL.RPN.IN_FEATURES": ["res4"],
        "MODEL.ANCHOR_GENERATOR.SIZES": [[16, 32, 64]],
        "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES": ["res4"],
        "MODEL.MASK_ON": False,
    },
    "cascade": {
        "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
        f"{BOX}.CLS_AGNOSTIC_BBOX_REG": True,
    },
    "rotated": {
        "MODEL.MASK_ON": False,
        "MODEL.ANCHOR_GENERATOR.NAME": "RotatedAnchorGenerator",
        "MODEL.ANCHOR_GENERATOR.ANGLES": [[-30, 0, 30]],
        "MODEL.PROPOSAL_GENERATOR.NAME": "RRPN",
        "MODEL.RPN.BBOX_REG_WEIGHTS": (1.0,) * 5,
        "MODEL.ROI_HEADS.NAME": "RROIHeads",
        f"{BOX}.POOLER_TYPE": "ROIAlignRotated",
        f"{BOX}.BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0, 1.0),
    },
    "proposals": {"MODEL.META_ARCHITECTURE": "ProposalNetwork", "MODEL.MASK_ON": False},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """More threads add numbers in an order of their own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def config(changes: dict[str, Any]) -> Config:
    solver = {"SOLVER.MAX_ITER": ITERATIONS, "SOLVER.STEPS": (STOP + 1,)}
    return tiny_training_config({**solver, **changes})


def resumed_exactly(
    cfg: Config, folder: Path, *, rotated: bool = False, val: SemanticDataset | None = None
) -> dict[str, float]:
    """Train ``cfg`` twice, once in parts; what the model keeps beside its weights is returned."""
    train = annotated_shapes(folder, rotated=rotated)

    def made(output: Path, watcher: Watcher | None) -> Trainer:
        options = TrainingOptions(eval_period=STOP, checkpoint_period=ITERATIONS)
        return Trainer(
            cfg, train, val, output=output, options=options, device="cpu", watcher=watcher
        )

    whole, resumed = train_whole_and_in_parts(made, folder, stop=STOP)
    assert_same_end(whole, resumed)
    state: dict[str, float] = whole.model.training_state()
    return state


@pytest.mark.parametrize("name", MODELS)
def test_a_resumed_training_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    state = resumed_exactly(config(MODELS[name]), tmp_path, rotated=name == "rotated")
    # The moving average that RetinaNet divides its losses by is in no state dict.
    assert set(state) == ({"loss_normalizer"} if name == "retinanet" else set())


def test_fcos_ends_with_the_same_bits(tmp_path: Path) -> None:
    changes = training_overrides(SOLVER__MAX_ITER=ITERATIONS)
    cfg = load_config(write_tiny_fcos(tmp_path / "fcos.yaml"), changes)
    state = resumed_exactly(cfg, tmp_path)
    assert set(state) == {"loss_normalizer"}


def test_a_semantic_model_that_is_measured_ends_with_the_same_bits(tmp_path: Path) -> None:
    cfg = config(
        {
            "MODEL.META_ARCHITECTURE": "SemanticSegmentor",
            "MODEL.MASK_ON": False,
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES": len(CLASSES) + 1,
        }
    )
    resumed_exactly(cfg, tmp_path, val=label_maps(tmp_path))
