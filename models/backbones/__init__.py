"""Backbones: image tensor to named feature maps."""

from models.backbones.backbone import Backbone
from models.backbones.build import BACKBONE_REGISTRY, build_backbone
from models.backbones.deformable import DeformBottleneckBlock
from models.backbones.fpn import (
    FPN,
    LastLevelMaxPool,
    LastLevelP6P7,
    build_resnet_fpn_backbone,
    build_retinanet_resnet_fpn_backbone,
)
from models.backbones.mmdet_backbone import MMDetBackbone
from models.backbones.regnet import AnyNet, RegNet
from models.backbones.resnet import BasicBlock, BasicStem, BottleneckBlock, ResNet
from models.backbones.resnet_from_config import build_resnet_backbone

__all__ = [
    "BACKBONE_REGISTRY",
    "FPN",
    "AnyNet",
    "Backbone",
    "BasicBlock",
    "BasicStem",
    "BottleneckBlock",
    "DeformBottleneckBlock",
    "LastLevelMaxPool",
    "LastLevelP6P7",
    "MMDetBackbone",
    "RegNet",
    "ResNet",
    "build_backbone",
    "build_resnet_backbone",
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
]
