"""Backbones: image tensor to named feature maps."""

from models.backbones.backbone import Backbone
from models.backbones.build import BACKBONE_REGISTRY, build_backbone
from models.backbones.fpn import FPN, LastLevelMaxPool, build_resnet_fpn_backbone
from models.backbones.resnet import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    ResNet,
    build_resnet_backbone,
)

__all__ = [
    "BACKBONE_REGISTRY",
    "FPN",
    "Backbone",
    "BasicBlock",
    "BasicStem",
    "BottleneckBlock",
    "LastLevelMaxPool",
    "ResNet",
    "build_backbone",
    "build_resnet_backbone",
    "build_resnet_fpn_backbone",
]
