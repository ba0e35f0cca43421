"""RegNetX and RegNetY: the networks of the paper, against torchvision's own."""

import pytest
import torch
import torchvision.models.regnet as reference

from models.backbones import AnyNet, RegNet
from models.backbones.regnet import ResBottleneckBlock, SimpleStem, adjust_width, generate_widths
from models.errors import ConfigError
from models.layers import FrozenBatchNorm2d, ShapeSpec

X_4GF = {"depth": 23, "w_a": 38.65, "w_0": 96, "w_m": 2.43, "group_width": 40}
Y_4GF = {"depth": 22, "w_a": 31.41, "w_0": 96, "w_m": 2.24, "group_width": 64}
X_400MF = {"depth": 22, "w_a": 24.48, "w_0": 24, "w_m": 2.54, "group_width": 16}
X_800MF = {"depth": 16, "w_a": 35.73, "w_0": 56, "w_m": 2.28, "group_width": 16}
Y_400MF = {"depth": 16, "w_a": 27.89, "w_0": 48, "w_m": 2.09, "group_width": 8}


def regnet(se_ratio: float = 0.0, **kwargs) -> RegNet:
    return RegNet(
        stem_class=SimpleStem,
        stem_width=32,
        block_class=ResBottleneckBlock,
        se_ratio=se_ratio,
        **kwargs,
    )


@pytest.mark.parametrize(
    ("line", "widths", "depths"),
    [
        (X_4GF, [80, 240, 560, 1360], [2, 5, 14, 2]),
        (Y_4GF, [128, 192, 512, 1088], [2, 6, 12, 2]),
        (X_400MF, [32, 64, 160, 384], [1, 2, 7, 12]),
        (Y_400MF, [48, 104, 208, 440], [1, 3, 6, 6]),
    ],
    ids=["X-4GF", "Y-4GF", "X-400MF", "Y-400MF"],
)
def test_widths_and_depths_are_those_of_the_paper(
    line: dict, widths: list[int], depths: list[int]
) -> None:
    with torch.device("meta"):
        ours = regnet(**line, out_features=["stem", "s1", "s2", "s3", "s4"])
    shapes = ours.output_shape()
    assert [shapes[f"s{i}"].channels for i in range(1, 5)] == widths
    assert [shapes[f"s{i}"].stride for i in range(1, 5)] == [4, 8, 16, 32]
    assert shapes["stem"] == ShapeSpec(channels=32, stride=2)
    assert [len(getattr(ours, f"s{i}")) for i in range(1, 5)] == depths


@pytest.mark.parametrize(
    ("line", "se_ratio", "build"),
    [(X_800MF, 0.0, reference.regnet_x_800mf), (Y_400MF, 0.25, reference.regnet_y_400mf)],
    ids=["X-800MF", "Y-400MF"],
)
def test_features_equal_torchvisions(line: dict, se_ratio: float, build) -> None:
    torch.manual_seed(0)
    theirs, ours = build().eval(), regnet(se_ratio, **line).eval()
    values = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    for name, value in values.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            value.normal_(std=0.1)
    names = list(ours.state_dict())  # in the same order, under other names
    ours.load_state_dict(dict(zip(names, values.values(), strict=True)))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(x)["s4"], theirs.trunk_output(theirs.stem(x)))


def test_parameters_have_the_names_of_checkpoints() -> None:
    with torch.device("meta"):
        names = set(regnet(0.25, **Y_4GF).state_dict())
        plain = set(regnet(**X_4GF).state_dict())
    assert {"stem.conv.weight", "stem.bn.weight", "s1.b1.proj.weight", "s1.b1.bn.bias"} < names
    assert {"s1.b1.f.a.weight", "s1.b1.f.a_bn.weight", "s4.b2.f.c_bn.running_mean"} < names
    assert {"s2.b3.f.se.f_ex.0.weight", "s2.b3.f.se.f_ex.2.bias"} < names
    assert "s1.b2.proj.weight" not in names
    assert not any(".se." in name for name in plain)


def test_squeeze_and_excitation_is_a_quarter_of_the_blocks_input() -> None:
    with torch.device("meta"):
        ours = regnet(0.25, **Y_4GF)
    assert ours.s2.b1.f.se.f_ex[0].out_channels == 128 // 4
    assert ours.s2.b2.f.se.f_ex[0].out_channels == 192 // 4


def test_the_default_feature_is_the_last_stage() -> None:
    with torch.device("meta"):
        ours = regnet(**X_400MF)
        assert list(ours(torch.zeros(1, 3, 64, 64))) == ["s4"]
    assert ours.size_divisibility == 0


def test_freezing_counts_stages_from_the_stem() -> None:
    ours = regnet(**X_400MF, freeze_at=2)
    frozen = {n.split(".")[0] for n, p in ours.named_parameters() if not p.requires_grad}
    assert frozen == {"stem", "s1"}
    assert isinstance(ours.s1.b1.f.a_bn, FrozenBatchNorm2d)
    assert not isinstance(ours.s2.b1.f.a_bn, FrozenBatchNorm2d)


@pytest.mark.parametrize(
    ("width", "ratio", "group", "expected"),
    [
        (80, 1.0, 40, (80, 40)),
        (88, 1.0, 48, (96, 48)),
        (24, 1.0, 64, (24, 24)),
        (392, 1.0, 16, (384, 16)),  # half way: to the even multiple, as in the paper's networks
    ],
)
def test_a_width_becomes_one_that_its_groups_divide(
    width: int, ratio: float, group: int, expected: tuple[int, int]
) -> None:
    assert adjust_width(width, ratio, group) == expected


@pytest.mark.parametrize(
    "line", [(-1.0, 96, 2.0), (30.0, 90, 2.0), (30.0, 96, 1.0), (30.0, 0, 2.0)]
)
def test_a_line_that_makes_no_sense_is_refused(line: tuple) -> None:
    with pytest.raises(ConfigError, match="w_0 a positive multiple of 8"):
        generate_widths(*line, depth=10)


def test_a_feature_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no features s5; it has stem, s1"):
        AnyNet(
            stem_class=SimpleStem,
            stem_width=8,
            block_class=ResBottleneckBlock,
            depths=[1],
            widths=[8],
            group_widths=[8],
            strides=[2],
            bottleneck_ratios=[1.0],
            out_features=["s5"],
        )
