"""A small seeded model of every architecture, as the files that an operator would serve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision.models.detection as detection
import yaml
from golden import GOLDEN
from seeded_weights import seeded_state
from torch import nn

from models import build_model, load_config

SEED, STEM_GAIN = 7, 0.0005


@dataclass(frozen=True)
class SmallModel:
    """How one is made, and what it must be.

    Attributes:
        source: a folder of the golden answers whose config is shrunk, or a function of torchvision's.
        task: as ``GET /models`` tells it.
        outputs: likewise.
        changes: more keys and values of the config.
        tta: whether there is test-time augmentation for it.
    """

    source: str
    task: str
    outputs: tuple[str, ...]
    changes: tuple[Any, ...] = ()
    tta: bool = True


_SHRINK: dict[str, Any] = {
    "INPUT.MIN_SIZE_TEST": 96,
    "INPUT.MAX_SIZE_TEST": 160,
    "MODEL.WEIGHTS": "",
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 100,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 40,
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 16,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": [16, 16],
    "MODEL.RETINANET.NUM_CLASSES": 3,
    "MODEL.RETINANET.NUM_CONVS": 1,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "TEST.DETECTIONS_PER_IMAGE": 20,
    "TEST.AUG.MIN_SIZES": [64, 96],
    "TEST.AUG.MAX_SIZE": 160,
}

# A ResNet-18, and RegNetX-200MF as published.
_LAZY_CHANGES: dict[str, Any] = {
    "fcos": {"depth": 18, "test_score_thresh": 0.02},
    "regnet": {"depth": 13, "group_width": 8, "w_a": 36.44, "w_0": 24, "w_m": 2.49},
}


MODELS = {
    "mask_rcnn": SmallModel(
        "COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x",
        "instance_segmentation",
        ("instances", "masks"),
    ),
    "faster_rcnn_c4": SmallModel(
        "COCO-Detection__faster_rcnn_R_50_C4_3x", "object_detection", ("instances",)
    ),
    "cascade": SmallModel(
        "Misc__cascade_mask_rcnn_R_50_FPN_3x", "instance_segmentation", ("instances", "masks")
    ),
    "keypoints": SmallModel(
        "COCO-Keypoints__keypoint_rcnn_R_50_FPN_3x",
        "keypoint_detection",
        ("instances", "keypoints"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 1),
    ),
    "rotated": SmallModel(
        "custom__faster_rcnn_R_50_FPN_rotated",
        "rotated_object_detection",
        ("instances",),
        tta=False,
    ),
    "fast_rcnn": SmallModel(
        "COCO-Detection__fast_rcnn_R_50_FPN_1x", "object_detection", ("instances",), tta=False
    ),
    "retinanet": SmallModel(
        "COCO-Detection__retinanet_R_50_FPN_3x",
        "object_detection",
        ("instances",),
        ("MODEL.RETINANET.SCORE_THRESH_TEST", 0.01),
    ),
    "fcos": SmallModel("lazy__fcos_R_50_FPN_1x", "object_detection", ("instances",)),
    "regnet": SmallModel(
        "lazy__mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ",
        "instance_segmentation",
        ("instances", "masks"),
    ),
    "proposal_network": SmallModel(
        "COCO-Detection__rpn_R_50_FPN_1x", "region_proposal", ("proposals",), tta=False
    ),
    "semantic": SmallModel(
        "Misc__semantic_R_50_FPN_1x", "semantic_segmentation", ("sem_seg",), tta=False
    ),
    "panoptic": SmallModel(
        "COCO-PanopticSegmentation__panoptic_fpn_R_50_3x",
        "panoptic_segmentation",
        ("instances", "masks", "sem_seg", "panoptic_seg"),
        (
            "MODEL.ROI_HEADS.NUM_CLASSES",
            80,
            "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH",
            0.05,
            "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT",
            16,
        ),
        tta=False,
    ),
    "torchvision": SmallModel(
        "fasterrcnn_mobilenet_v3_large_320_fpn", "object_detection", ("instances",), tta=False
    ),
}


def write_small_model(name: str, folder: Path) -> tuple[Path | None, Path]:
    """Write the config (None for torchvision's) and the weights of one of :data:`MODELS`."""
    small = MODELS[name]
    weights = folder / "model_final.pth"
    if name == "torchvision":
        torch.save(_torchvision_state(), weights)
        return None, weights
    config = folder / "config.yaml"
    if small.source.startswith("lazy__"):
        config.write_text(_lazy_config(name))
    else:
        changes = [part for pair in _SHRINK.items() for part in pair]
        cfg = load_config(GOLDEN / small.source / "config.yaml", [*changes, *small.changes])
        config.write_text(cfg.dump())
    model = build_model(load_config(config))
    save_seeded(model, weights)
    return config, weights


def _lazy_config(name: str) -> str:
    """The dump of a Python config, with fewer channels, layers and classes."""
    golden = load_config(GOLDEN / MODELS[name].source / "config.yaml")
    changes = {"num_classes": 3} | _LAZY_CHANGES[name]
    dropped = {"stride_in_1x1"} if changes["depth"] < 50 else set()  # basic blocks have no 1x1

    def shrunk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            kept = {key: inner for key, inner in value.items() if key not in dropped}
            return {key: shrunk(inner, key) for key, inner in kept.items()}
        if isinstance(value, list):
            return [shrunk(inner) for inner in value]
        return changes.get(key, 64 if value in (256, 1024) else value)

    model = golden["LAZY_MODEL"].to_dict()
    sizes = model.get("proposal_generator", {}).get("anchor_generator", {}).pop("sizes", None)
    model = shrunk(model)
    if sizes is not None:  # they are no channels
        model["proposal_generator"]["anchor_generator"]["sizes"] = sizes
    resize = {
        "_target_": "detectron2.data.transforms.ResizeShortestEdge",
        "short_edge_length": 96,
        "max_size": 160,
    }
    mapper = {"augmentations": [resize], "image_format": "BGR"}
    test = {"dataset": {"names": "my_val"}, "mapper": mapper}
    loader = {"test": test, "train": {"dataset": {"names": "my_train"}}}
    return yaml.safe_dump({"model": model, "dataloader": loader})


def save_seeded(model: nn.Module, path: Path) -> None:
    """The model's parameters, seeded, as a trainer saves them."""
    state = model.state_dict() | seeded_state(model, SEED, STEM_GAIN)
    torch.save({"model": state}, path)


def _torchvision_state() -> dict[str, Any]:
    torch.manual_seed(0)
    model = detection.fasterrcnn_mobilenet_v3_large_fpn(
        weights=None, weights_backbone=None, num_classes=4
    )
    state: dict[str, Any] = model.state_dict()
    return state
