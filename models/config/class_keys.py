"""The keys of a config that say how many classes its model has; each kind of detector has its own."""

from __future__ import annotations

from models.config.config import Config
from models.config.lazy_tags import LAZY_KEY, TARGET_KEY

DENSE = ("RetinaNet", "FCOS")
"""Architectures without RoI heads, whose classes are not under ``MODEL.ROI_HEADS``."""


def thing_classes_key(cfg: Config) -> str:
    """Of the instances, as the config's file writes it; of a lazy one below ``model``."""
    if LAZY_KEY in cfg:
        target = str(cfg[LAZY_KEY].get(TARGET_KEY, "")).rpartition(".")[2]
        return "model.num_classes" if target in DENSE else "model.roi_heads.num_classes"
    architecture: str = cfg.MODEL.META_ARCHITECTURE
    if architecture not in DENSE:
        return "MODEL.ROI_HEADS.NUM_CLASSES"
    own = f"MODEL.{architecture.upper()}.NUM_CLASSES"
    return own if own in cfg else "MODEL.RETINANET.NUM_CLASSES"


def stuff_classes_key(cfg: Config) -> str:
    """Of a semantic head, likewise."""
    lazy = LAZY_KEY in cfg
    return "model.sem_seg_head.num_classes" if lazy else "MODEL.SEM_SEG_HEAD.NUM_CLASSES"


def main_classes_key(cfg: Config) -> str:
    """Of the classes that ``labels.txt`` names: the instances', without instances the stuff's."""
    stuff_alone = cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor"
    return stuff_classes_key(cfg) if stuff_alone else thing_classes_key(cfg)
