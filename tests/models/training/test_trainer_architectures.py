"""Each architecture, stopped and resumed, ends with the bits of an uninterrupted training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from annotated_shapes import annotated_shapes, label_maps
from interrupted_training import assert_same_end, train_whole_and_in_parts
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
    state = resumed_exactly(fcos(tmp_path), tmp_path)
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


def fcos(folder: Path) -> Config:
    """A small FCOS; as in Detectron2 no YAML config describes one, but the dump of a Python config."""

    def stage(first: int, channels: int) -> dict[str, Any]:
        return {
            "_target_": "detectron2.modeling.ResNet.make_stage",
            "block_class": {"_name_": "detectron2.modeling.backbone.resnet.BasicBlock"},
            "num_blocks": 1,
            "stride": 2,
            "in_channels": first,
            "out_channels": channels,
            "norm": "FrozenBN",
        }

    resize = {
        "_target_": "detectron2.data.transforms.ResizeShortestEdge",
        "short_edge_length": 64,
        "max_size": 128,
    }
    shape = {"_target_": "detectron2.layers.ShapeSpec", "channels": 8}
    tree = {
        "_target_": "detectron2.modeling.FCOS",
        "backbone": {
            "_target_": "detectron2.modeling.FPN",
            "bottom_up": {
                "_target_": "detectron2.modeling.ResNet",
                "stem": {
                    "_target_": "detectron2.modeling.backbone.BasicStem",
                    "in_channels": 3,
                    "out_channels": 4,
                    "norm": "FrozenBN",
                },
                "stages": [stage(4, 8), stage(8, 16)],
                "out_features": ["res2", "res3"],
            },
            "in_features": ["res2", "res3"],
            "out_channels": 8,
        },
        "head": {
            "_target_": "detectron2.modeling.meta_arch.fcos.FCOSHead",
            "input_shape": [shape, shape],
            "num_classes": len(CLASSES),
            "conv_dims": [8],
        },
        "num_classes": len(CLASSES),
        "pixel_mean": [103.53, 116.28, 123.675],
        "pixel_std": [60.0, 60.0, 60.0],
    }
    loader = {"test": {"mapper": {"augmentations": [resize], "image_format": "BGR"}}}
    path = folder / "fcos.yaml"
    path.write_text(yaml.safe_dump({"model": tree, "dataloader": loader}))
    keys = {
        "INPUT.MIN_SIZE_TRAIN": "(64,)",
        "INPUT.MAX_SIZE_TRAIN": 128,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.BASE_LR": 0.005,
        "SOLVER.MAX_ITER": ITERATIONS,
        "SOLVER.STEPS": f"({STOP + 1},)",
        "SOLVER.WARMUP_ITERS": 2,
        "MODEL.WEIGHTS": "",
    }
    return load_config(path, [part for pair in keys.items() for part in map(str, pair)])
