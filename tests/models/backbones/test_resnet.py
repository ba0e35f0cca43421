"""ResNet and ResNeXt: shapes, strides, names, frozen stages. Built without memory ("meta")."""

import pytest
import torch
from torch import nn

from models import ResNet, ShapeSpec, build_resnet_backbone
from models.backbones import BasicBlock, BasicStem, BottleneckBlock
from models.config import Config, default_config
from models.errors import ConfigError
from models.layers import FrozenBatchNorm2d

STAGES = ["res2", "res3", "res4", "res5"]


def config(**resnets: object) -> Config:
    cfg = default_config()
    for key, value in {"OUT_FEATURES": STAGES, **resnets}.items():
        cfg = cfg.override(f"MODEL.RESNETS.{key}", value)
    return cfg


def build(freeze_at: int = 0, **resnets: object) -> ResNet:
    cfg = config(**resnets).override("MODEL.BACKBONE.FREEZE_AT", freeze_at)
    with torch.device("meta"):
        return build_resnet_backbone(cfg, ShapeSpec(channels=3))


def tiny(**kwargs) -> ResNet:
    """A real ResNet of two stages with few channels."""
    stages = [
        ResNet.make_stage(BasicBlock, 1, in_channels=4, out_channels=4, stride_per_block=[1]),
        ResNet.make_stage(BasicBlock, 2, in_channels=4, out_channels=6, stride_per_block=[2, 1]),
    ]
    return ResNet(BasicStem(3, 4), stages, **kwargs)


def frozen(module: nn.Module) -> list[str]:
    return [name for name, value in module.named_parameters() if not value.requires_grad]


@pytest.mark.parametrize(
    ("resnets", "blocks", "channels"),
    [
        ({"DEPTH": 18, "RES2_OUT_CHANNELS": 64}, [2, 2, 2, 2], [64, 128, 256, 512]),
        ({"DEPTH": 34, "RES2_OUT_CHANNELS": 64}, [3, 4, 6, 3], [64, 128, 256, 512]),
        ({"DEPTH": 50}, [3, 4, 6, 3], [256, 512, 1024, 2048]),
        ({"DEPTH": 101}, [3, 4, 23, 3], [256, 512, 1024, 2048]),
        ({"DEPTH": 152}, [3, 8, 36, 3], [256, 512, 1024, 2048]),
        (
            {"DEPTH": 101, "NUM_GROUPS": 32, "WIDTH_PER_GROUP": 8, "STRIDE_IN_1X1": False},
            [3, 4, 23, 3],
            [256, 512, 1024, 2048],
        ),
    ],
    ids=["18", "34", "50", "101", "152", "X101 32x8d"],
)
def test_features_have_the_shapes_that_the_backbone_announces(
    resnets: dict[str, object], blocks: list[int], channels: list[int]
) -> None:
    resnet = build(**resnets)
    features = resnet(torch.empty(2, 3, 64, 96, device="meta"))
    assert [len(getattr(resnet, name)) for name in STAGES] == blocks
    assert list(features) == STAGES
    for name, width, stride in zip(STAGES, channels, [4, 8, 16, 32], strict=True):
        assert resnet.output_shape()[name] == ShapeSpec(channels=width, stride=stride)
        assert features[name].shape == (2, width, 64 // stride, 96 // stride)


def test_any_input_size_will_do() -> None:
    assert build().size_divisibility == 0


def test_resnext_widens_the_grouped_convolutions() -> None:
    resnet = build(NUM_GROUPS=32, WIDTH_PER_GROUP=8)
    assert [getattr(resnet, name)[0].conv2.groups for name in STAGES] == [32] * 4
    widths = [getattr(resnet, name)[0].conv2.out_channels for name in STAGES]
    assert widths == [256, 512, 1024, 2048]


@pytest.mark.parametrize(("in_1x1", "strides"), [(True, (2, 1)), (False, (1, 2))])
def test_the_stride_is_on_the_1x1_or_on_the_3x3(in_1x1: bool, strides: tuple[int, int]) -> None:
    block = build(STRIDE_IN_1X1=in_1x1).res3[0]
    assert (block.conv1.stride[0], block.conv2.stride[0]) == strides
    assert block.shortcut.stride == (2, 2)


def test_only_the_first_block_of_a_bottleneck_stage_has_a_shortcut_convolution() -> None:
    assert [block.shortcut is None for block in build().res2] == [False, True, True]


def test_the_first_stage_of_a_basic_network_has_no_shortcut_convolution() -> None:
    resnet = build(DEPTH=18, RES2_OUT_CHANNELS=64)
    assert [block.shortcut is None for block in resnet.res2] == [True, True]


def test_a_norm_is_a_part_of_its_convolution() -> None:
    names = set(build().state_dict())
    assert {"stem.conv1.norm.weight", "res2.0.shortcut.norm.running_mean"} <= names
    assert "res5.2.conv3.weight" in names
    assert not any(name.endswith("conv1.bias") for name in names)


def test_dilation_keeps_the_stride_of_res4() -> None:
    resnet = build(RES5_DILATION=2)
    assert resnet.output_shape()["res5"].stride == 16
    assert resnet.res5[0].conv2.dilation == (2, 2)
    features = resnet(torch.empty(1, 3, 64, 96, device="meta"))
    assert features["res5"].shape == (1, 2048, 4, 6)


def test_stages_behind_the_last_feature_are_not_built() -> None:
    resnet = build(OUT_FEATURES=["res3"])
    assert not hasattr(resnet, "res4")
    assert list(resnet.output_shape()) == ["res3"]


@pytest.mark.parametrize(("freeze_at", "tensors"), [(0, 0), (1, 1), (2, 11), (3, 24), (5, 53)])
def test_freeze_at_counts_stages_from_the_stem(freeze_at: int, tensors: int) -> None:
    names = frozen(build(freeze_at))
    assert len(names) == tensors
    last_frozen_stage = f"res{freeze_at}"
    assert all(name.startswith("stem") or name.split(".")[0] <= last_frozen_stage for name in names)


def test_batch_norms_of_frozen_stages_become_frozen() -> None:
    resnet = build(freeze_at=2, NORM="BN")
    assert isinstance(resnet.stem.conv1.norm, FrozenBatchNorm2d)
    assert isinstance(resnet.res2[1].conv2.norm, FrozenBatchNorm2d)
    assert isinstance(resnet.res3[0].conv1.norm, nn.BatchNorm2d)
    assert all(value.requires_grad for value in resnet.res3.parameters())


def test_freeze_returns_the_network() -> None:
    resnet = tiny()
    assert resnet.freeze(1) is resnet
    assert frozen(resnet) == ["stem.conv1.weight"]


def test_a_keyword_per_block_gives_each_block_its_own_value() -> None:
    blocks = ResNet.make_stage(
        BottleneckBlock,
        3,
        in_channels=16,
        out_channels=64,
        bottleneck_channels=16,
        num_groups=2,
        stride_per_block=[2, 1, 1],
        dilation_per_block=[1, 1, 2],
    )
    assert [block.stride for block in blocks] == [2, 1, 1]
    assert [block.conv2.dilation[0] for block in blocks] == [1, 1, 2]
    assert [block.conv2.groups for block in blocks] == [2, 2, 2]
    assert [block.in_channels for block in blocks] == [16, 64, 64]


def test_a_keyword_per_block_needs_one_value_for_each() -> None:
    with pytest.raises(ValueError, match="stride_per_block has 2 values for 3 blocks"):
        ResNet.make_stage(BasicBlock, 3, in_channels=4, out_channels=4, stride_per_block=[2, 1])


@pytest.mark.parametrize(("depth", "block"), [(18, BasicBlock), (50, BottleneckBlock)])
def test_default_stages_fit_the_default_stem(depth: int, block: type[nn.Module]) -> None:
    with torch.device("meta"):
        stages = ResNet.make_default_stages(depth, norm="FrozenBN")
        resnet = ResNet(BasicStem(norm="FrozenBN"), stages)
    assert isinstance(stages[0][0], block)
    assert resnet.output_shape()["res5"].stride == 32
    assert list(resnet(torch.empty(1, 3, 32, 32, device="meta"))) == ["res5"]


def test_default_stages_of_an_unknown_depth_are_refused() -> None:
    with pytest.raises(ValueError, match="depth 20; there are"):
        ResNet.make_default_stages(20)


def test_features_include_the_stem_and_the_classifier() -> None:
    resnet = tiny(num_classes=5, out_features=["stem", "res3", "linear"]).eval()
    features = resnet(torch.zeros(2, 3, 32, 32))
    shapes = {name: tuple(value.shape) for name, value in features.items()}
    assert shapes == {"stem": (2, 4, 8, 8), "res3": (2, 6, 4, 4), "linear": (2, 5)}


def test_the_default_feature_is_the_last_one() -> None:
    assert tiny().out_features == ("res3",)
    assert tiny(num_classes=5).out_features == ("linear",)


@pytest.mark.parametrize("name", ["res9", "linear", "p2"])
def test_a_feature_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no features {name}; it has stem"):
        tiny(out_features=[name])


@pytest.mark.parametrize(
    ("resnets", "message"),
    [
        ({"DEPTH": 20}, "DEPTH is 20; there are 18, 34, 50, 101, 152"),
        ({"DEPTH": 18}, "RES2_OUT_CHANNELS 64"),
        ({"DEPTH": 18, "RES2_OUT_CHANNELS": 64, "NUM_GROUPS": 2}, "no groups, no dilation"),
        ({"DEPTH": 34, "RES2_OUT_CHANNELS": 64, "RES5_DILATION": 2}, "no groups, no dilation"),
        (
            {
                "DEPTH": 18,
                "RES2_OUT_CHANNELS": 64,
                "DEFORM_ON_PER_STAGE": [False, False, False, True],
            },
            "no deformable convolution",
        ),
        ({"RES5_DILATION": 4}, "RES5_DILATION is 4; it is 1 or 2"),
        ({"RES5_DILATION": 0}, "RES5_DILATION is 0; it is 1 or 2"),
        ({"OUT_FEATURES": ["res7"]}, "no features res7"),
        ({"NORM": "XN"}, "Unknown norm 'XN'"),
    ],
)
def test_a_config_that_describes_no_resnet_is_refused(
    resnets: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**resnets)
