"""The ResNet that a config describes."""

from __future__ import annotations

from typing import Any

from models.backbones.build import BACKBONE_REGISTRY
from models.backbones.deformable import DeformBottleneckBlock
from models.backbones.resnet import BLOCKS_PER_STAGE, BasicBlock, BasicStem, BottleneckBlock, ResNet
from models.config import Config
from models.errors import ConfigError
from models.layers import CNNBlockBase, ShapeSpec


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg: Config, input_shape: ShapeSpec) -> ResNet:
    """The ResNet or ResNeXt that ``cfg.MODEL.RESNETS`` describes."""
    resnets = cfg.MODEL.RESNETS
    norm: str = resnets.NORM
    depth: int = resnets.DEPTH
    if depth not in BLOCKS_PER_STAGE:
        raise ConfigError(
            f"MODEL.RESNETS.DEPTH is {depth}; there are {', '.join(map(str, BLOCKS_PER_STAGE))}.",
            key="MODEL.RESNETS.DEPTH",
        )
    if resnets.RES5_DILATION not in {1, 2}:
        raise ConfigError(
            f"MODEL.RESNETS.RES5_DILATION is {resnets.RES5_DILATION}; it is 1 or 2.",
            key="MODEL.RESNETS.RES5_DILATION",
        )
    deformable: list[bool] = resnets.DEFORM_ON_PER_STAGE
    if depth < 50 and (resnets.NUM_GROUPS != 1 or resnets.RES5_DILATION != 1 or any(deformable)):
        raise ConfigError(
            "ResNet-18 and -34 have no groups, no dilation and no deformable convolution: "
            "MODEL.RESNETS.NUM_GROUPS and RES5_DILATION must be 1, DEFORM_ON_PER_STAGE all false.",
            key="MODEL.RESNETS.NUM_GROUPS",
        )
    if depth < 50 and resnets.RES2_OUT_CHANNELS != 64:
        raise ConfigError(
            "ResNet-18 and -34 need MODEL.RESNETS.RES2_OUT_CHANNELS 64.",
            key="MODEL.RESNETS.RES2_OUT_CHANNELS",
        )
    stem = BasicStem(
        in_channels=input_shape.known_channels, out_channels=resnets.STEM_OUT_CHANNELS, norm=norm
    )
    in_channels: int = resnets.STEM_OUT_CHANNELS
    out_channels: int = resnets.RES2_OUT_CHANNELS
    bottleneck_channels: int = resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP
    stages = []
    for number, num_blocks in enumerate(BLOCKS_PER_STAGE[depth], start=2):
        dilation = resnets.RES5_DILATION if number == 5 else 1
        first_stride = 1 if number == 2 or (number == 5 and dilation == 2) else 2
        arguments: dict[str, Any] = {
            "stride_per_block": [first_stride] + [1] * (num_blocks - 1),
            "in_channels": in_channels,
            "out_channels": out_channels,
            "norm": norm,
        }
        block_class: type[CNNBlockBase] = BasicBlock
        if depth >= 50:
            block_class = BottleneckBlock
            arguments |= {
                "bottleneck_channels": bottleneck_channels,
                "stride_in_1x1": resnets.STRIDE_IN_1X1,
                "dilation": dilation,
                "num_groups": resnets.NUM_GROUPS,
            }
            if deformable[number - 2]:
                block_class = DeformBottleneckBlock
                arguments |= {
                    "deform_modulated": resnets.DEFORM_MODULATED,
                    "deform_num_groups": resnets.DEFORM_NUM_GROUPS,
                }
        stages.append(ResNet.make_stage(block_class, num_blocks, **arguments))
        in_channels = out_channels
        out_channels *= 2
        bottleneck_channels *= 2
    return ResNet(
        stem, stages, out_features=resnets.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )
