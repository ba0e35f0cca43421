"""The parts that the zoo's configs are made of: what each changes of the defaults.

A config is a sequence of these, later ones win. Keys are dotted, and below ``MODEL`` unless their
first word is another section of a config.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.config import Config, default_config
from models.config.defaults import DEFAULTS
from models.config.merging import merge_

Preset = dict[str, Any]

_BASE: Preset = {
    "DATASETS.TRAIN": ("coco_2017_train",),
    "DATASETS.TEST": ("coco_2017_val",),
    "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.MAX_ITER": 90_000,
    "SOLVER.STEPS": (60_000, 80_000),
    "RESNETS.DEPTH": 50,
    "WEIGHTS": "detectron2://ImageNetPretrained/MSRA/R-50.pkl",
}
_TWO_LAYER_HEADS: Preset = {
    "ROI_HEADS.NAME": "StandardROIHeads",
    "ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "ROI_BOX_HEAD.NUM_FC": 2,
    "ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "ROI_MASK_HEAD.NUM_CONV": 4,
}
_PYRAMID_STAGES = ["res2", "res3", "res4", "res5"]
_PYRAMID_LEVELS = ["p2", "p3", "p4", "p5", "p6"]
_IMAGENET_STD = [57.375, 57.12, 58.395]
_RESNEXT: Preset = {
    "PIXEL_STD": _IMAGENET_STD,
    "RESNETS.STRIDE_IN_1X1": False,
    "RESNETS.NUM_GROUPS": 32,
    "RESNETS.WIDTH_PER_GROUP": 8,
}
_CASCADE: Preset = {
    "ROI_HEADS.NAME": "CascadeROIHeads",
    "ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    "RPN.POST_NMS_TOPK_TRAIN": 2000,
}
_SCHEDULE_9X: Preset = {
    "SOLVER.IMS_PER_BATCH": 64,
    "SOLVER.BASE_LR": 0.08,
    "SOLVER.STEPS": (187_500, 197_500),
    "SOLVER.MAX_ITER": 202_500,
    "TEST.EVAL_PERIOD": 2500,
}


def _normed_heads(norm: str) -> Preset:
    """A norm everywhere, and four convolutions instead of one linear layer in the box head."""
    return {
        "RESNETS.NORM": norm,
        "FPN.NORM": norm,
        "ROI_BOX_HEAD.NUM_CONV": 4,
        "ROI_BOX_HEAD.NUM_FC": 1,
        "ROI_BOX_HEAD.NORM": norm,
        "ROI_MASK_HEAD.NORM": norm,
    }


def _old_pooling(*heads: str) -> Preset:
    """What the library before Detectron2 did: unaligned pooling, smooth L1."""
    preset: Preset = {"RPN.SMOOTH_L1_BETA": 0.1111, "ROI_BOX_HEAD.SMOOTH_L1_BETA": 1.0}
    for head in heads:
        preset |= {f"{head}.POOLER_SAMPLING_RATIO": 2, f"{head}.POOLER_TYPE": "ROIAlign"}
    return preset


_PROPOSAL_FILE = "detectron2://COCO-Detection/rpn_R_50_FPN_1x/137258492/coco_2017_{}.pkl"

PRESETS: dict[str, Preset] = {
    # Backbone and what must follow from it
    "c4": _BASE,
    "dc5": {
        **_BASE,
        **_TWO_LAYER_HEADS,
        "RESNETS.OUT_FEATURES": ["res5"],
        "RESNETS.RES5_DILATION": 2,
        "RPN.IN_FEATURES": ["res5"],
        "ROI_HEADS.IN_FEATURES": ["res5"],
    },
    "fpn": {
        **_BASE,
        **_TWO_LAYER_HEADS,
        "BACKBONE.NAME": "build_resnet_fpn_backbone",
        "RESNETS.OUT_FEATURES": _PYRAMID_STAGES,
        "FPN.IN_FEATURES": _PYRAMID_STAGES,
        "ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
        "RPN.IN_FEATURES": _PYRAMID_LEVELS,
        "RPN.PRE_NMS_TOPK_TRAIN": 2000,
        "RPN.PRE_NMS_TOPK_TEST": 1000,
        "RPN.POST_NMS_TOPK_TRAIN": 1000,
        "ROI_HEADS.IN_FEATURES": _PYRAMID_LEVELS[:4],
    },
    "retinanet": {
        **_BASE,
        "META_ARCHITECTURE": "RetinaNet",
        "BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
        "RESNETS.OUT_FEATURES": _PYRAMID_STAGES[1:],
        "FPN.IN_FEATURES": _PYRAMID_STAGES[1:],
        "ANCHOR_GENERATOR.SIZES": [
            [size, size * 2 ** (1.0 / 3), size * 2 ** (2.0 / 3)] for size in (32, 64, 128, 256, 512)
        ],
        "RETINANET.SMOOTH_L1_LOSS_BETA": 0.0,
        "SOLVER.BASE_LR": 0.01,
    },
    # Depth
    "r101": {
        "RESNETS.DEPTH": 101,
        "WEIGHTS": "detectron2://ImageNetPretrained/MSRA/R-101.pkl",
    },
    "x101": {
        **_RESNEXT,
        "RESNETS.DEPTH": 101,
        "WEIGHTS": "detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl",
    },
    "x152": {
        **_RESNEXT,
        "PIXEL_STD": [1.0, 1.0, 1.0],
        "RESNETS.DEPTH": 152,
        "WEIGHTS": "catalog://ImageNetPretrained/FAIR/X-152-32x8d-IN5k",
    },
    # Schedule
    "3x": {"SOLVER.STEPS": (210_000, 250_000), "SOLVER.MAX_ITER": 270_000},
    "9x": _SCHEDULE_9X,
    # Task
    "mask": {"MASK_ON": True},
    "keypoints": {
        "KEYPOINT_ON": True,
        "ROI_HEADS.NUM_CLASSES": 1,
        "ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.5,
        "RPN.POST_NMS_TOPK_TRAIN": 1500,
        "DATASETS.TRAIN": ("keypoints_coco_2017_train",),
        "DATASETS.TEST": ("keypoints_coco_2017_val",),
    },
    "panoptic": {
        "META_ARCHITECTURE": "PanopticFPN",
        "MASK_ON": True,
        "SEM_SEG_HEAD.LOSS_WEIGHT": 0.5,
        "DATASETS.TRAIN": ("coco_2017_train_panoptic_separated",),
        "DATASETS.TEST": ("coco_2017_val_panoptic_separated",),
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS": False,
    },
    "rpn": {"META_ARCHITECTURE": "ProposalNetwork", "RPN.POST_NMS_TOPK_TEST": 2000},
    "rpn-c4": {"RPN.PRE_NMS_TOPK_TEST": 12_000},
    "fast-rcnn": {
        "LOAD_PROPOSALS": True,
        "PROPOSAL_GENERATOR.NAME": "PrecomputedProposals",
        "DATASETS.PROPOSAL_FILES_TRAIN": (_PROPOSAL_FILE.format("train_box_proposals_21bc3a"),),
        "DATASETS.PROPOSAL_FILES_TEST": (_PROPOSAL_FILE.format("val_box_proposals_ee0dad"),),
        "DATALOADER.NUM_WORKERS": 2,
    },
    # Variants
    "cascade": _CASCADE,
    "deformable": {"RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True]},
    "gn": {
        **_normed_heads("GN"),
        "RESNETS.STRIDE_IN_1X1": False,
        "WEIGHTS": "catalog://ImageNetPretrained/FAIR/R-50-GN",
    },
    "syncbn": {**_normed_heads("SyncBN"), "TEST.PRECISE_BN.ENABLED": True},
    "scratch": {"WEIGHTS": "", "BACKBONE.FREEZE_AT": 0},
    "scratch-9x": {**_SCHEDULE_9X, "PIXEL_STD": _IMAGENET_STD, "RESNETS.STRIDE_IN_1X1": False},
    "large-cascade": {
        **_CASCADE,
        "ROI_BOX_HEAD.NUM_CONV": 4,
        "ROI_BOX_HEAD.NUM_FC": 1,
        "ROI_BOX_HEAD.NORM": "GN",
        "ROI_MASK_HEAD.NUM_CONV": 8,
        "ROI_MASK_HEAD.NORM": "GN",
        "SOLVER.IMS_PER_BATCH": 128,
        "SOLVER.BASE_LR": 0.16,
        "SOLVER.STEPS": (35_000, 45_000),
        "SOLVER.MAX_ITER": 50_000,
        "INPUT.MIN_SIZE_TRAIN": (640, 864),
        "INPUT.MIN_SIZE_TRAIN_SAMPLING": "range",
        "INPUT.MAX_SIZE_TRAIN": 1440,
        "INPUT.CROP.ENABLED": True,
        "TEST.EVAL_PERIOD": 2500,
    },
    "large-panoptic": {
        **_CASCADE,
        "RESNETS.NORM": "GN",
        "RESNETS.STRIDE_IN_1X1": False,
        "FPN.NORM": "GN",
        "ROI_MASK_HEAD.NORM": "GN",
        "WEIGHTS": "catalog://ImageNetPretrained/FAIR/R-101-GN",
        "SOLVER.IMS_PER_BATCH": 32,
        "SOLVER.BASE_LR": 0.04,
        "SOLVER.STEPS": (105_000, 125_000),
        "SOLVER.MAX_ITER": 135_000,
    },
    "old-box": {**_old_pooling("ROI_BOX_HEAD"), "INPUT.MIN_SIZE_TRAIN": (800,)},
    "old-mask": _old_pooling("ROI_MASK_HEAD"),
    "old-keypoints": _old_pooling("ROI_BOX_HEAD", "ROI_KEYPOINT_HEAD"),
    # Data
    "lvis": {
        "ROI_HEADS.NUM_CLASSES": 1230,
        "ROI_HEADS.SCORE_THRESH_TEST": 0.0001,
        "DATASETS.TRAIN": ("lvis_v0.5_train",),
        "DATASETS.TEST": ("lvis_v0.5_val",),
        "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
        "DATALOADER.REPEAT_THRESHOLD": 0.001,
        "TEST.DETECTIONS_PER_IMAGE": 300,
    },
    "cityscapes": {
        "ROI_HEADS.NUM_CLASSES": 8,
        "WEIGHTS": "detectron2://COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/"
        "model_final_f10217.pkl",
        "INPUT.MIN_SIZE_TRAIN": (800, 832, 864, 896, 928, 960, 992, 1024),
        "INPUT.MAX_SIZE_TRAIN": 2048,
        "INPUT.MIN_SIZE_TEST": 1024,
        "INPUT.MAX_SIZE_TEST": 2048,
        "DATASETS.TRAIN": ("cityscapes_fine_instance_seg_train",),
        "DATASETS.TEST": ("cityscapes_fine_instance_seg_val",),
        "SOLVER.IMS_PER_BATCH": 8,
        "SOLVER.BASE_LR": 0.01,
        "SOLVER.STEPS": (18_000,),
        "SOLVER.MAX_ITER": 24_000,
        "TEST.EVAL_PERIOD": 8000,
    },
    "voc": {
        "ROI_HEADS.NUM_CLASSES": 20,
        "INPUT.MIN_SIZE_TRAIN": (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800),
        "DATASETS.TRAIN": ("voc_2007_trainval", "voc_2012_trainval"),
        "DATASETS.TEST": ("voc_2007_test",),
        "SOLVER.STEPS": (12_000, 16_000),
        "SOLVER.MAX_ITER": 18_000,
        "SOLVER.WARMUP_ITERS": 100,
    },
}


def compose(presets: Sequence[str]) -> Config:
    """The defaults with ``presets`` laid over them, in order."""
    values = default_config().to_dict()
    for preset in presets:
        for key, value in PRESETS[preset].items():
            section, _, rest = key.partition(".")
            full_name = key if section in DEFAULTS and rest else f"MODEL.{key}"
            merge_(values, _nested(full_name, value), DEFAULTS, "")
    return Config(values)


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested
