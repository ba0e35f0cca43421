"""FPN: levels, fusion by its definition, errors; and the registry of backbones."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import BACKBONE_REGISTRY, FPN, Backbone, ShapeSpec, build_backbone, load_config
from models.backbones import LastLevelMaxPool, LastLevelP6P7
from models.config import Config
from models.errors import ConfigError


class Pools(Backbone):
    """Average pools as features ``res4`` (stride 16) and ``res5`` (stride 32)."""

    strides = (16, 32)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {f"res{4 + i}": F.avg_pool2d(x, stride) for i, stride in enumerate(self.strides)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            f"res{4 + i}": ShapeSpec(channels=3, stride=stride)
            for i, stride in enumerate(self.strides)
        }


def two_levels(**kwargs) -> FPN:
    torch.manual_seed(0)
    return FPN(Pools(), ["res4", "res5"], 8, **kwargs).eval()


@pytest.fixture
def cfg(shapes_files) -> Config:
    return load_config(shapes_files[0])


@pytest.mark.parametrize(("fuse_type", "divisor"), [("sum", 1), ("avg", 2)])
def test_levels_follow_the_definition(fuse_type: str, divisor: int) -> None:
    fpn = two_levels(fuse_type=fuse_type)
    x = torch.randn(2, 3, 64, 96)
    bottom_up = fpn.bottom_up(x)
    coarse = fpn.fpn_lateral5(bottom_up["res5"])
    upsampled = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    fine = (fpn.fpn_lateral4(bottom_up["res4"]) + upsampled) / divisor
    levels = fpn(x)
    assert list(levels) == ["p4", "p5"]
    torch.testing.assert_close(levels["p5"], fpn.fpn_output5(coarse))
    torch.testing.assert_close(levels["p4"], fpn.fpn_output4(fine))


def test_the_last_level_is_every_second_pixel_of_p5() -> None:
    fpn = two_levels(top_block=LastLevelMaxPool())
    levels = fpn(torch.randn(1, 3, 64, 160))
    assert list(levels) == list(fpn.output_shape()) == ["p4", "p5", "p6"]
    assert torch.equal(levels["p6"], levels["p5"][:, :, ::2, ::2])


def test_a_resnet_with_fpn_has_levels_p2_to_p6(cfg: Config) -> None:
    with torch.device("meta"):
        fpn = build_backbone(cfg)
        levels = fpn(torch.empty(1, 3, 128, 192, device="meta"))
    assert list(levels) == ["p2", "p3", "p4", "p5", "p6"]
    for i, (name, shape) in enumerate(fpn.output_shape().items(), start=2):
        assert shape == ShapeSpec(channels=32, stride=2**i)
        assert levels[name].shape == (1, 32, 128 // 2**i, 192 // 2**i)


def test_the_input_must_be_divisible_by_the_coarsest_bottom_up_stride() -> None:
    assert two_levels(top_block=LastLevelMaxPool()).size_divisibility == 32


@pytest.mark.parametrize(("norm", "has_bias"), [("", True), ("GN", False)])
def test_convolutions_have_a_bias_only_without_a_norm(norm: str, has_bias: bool) -> None:
    fpn = FPN(Pools(), ["res4", "res5"], 32, norm=norm)
    names = set(fpn.state_dict())
    assert ("fpn_lateral4.bias" in names) is has_bias
    assert ("fpn_output5.norm.weight" in names) is not has_bias


def test_a_feature_that_the_backbone_does_not_return_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"names res3, which the backbone does not .*res4, res5"):
        FPN(Pools(), ["res3", "res4"], 8)


def test_features_must_double_their_stride() -> None:
    pools = Pools()
    pools.strides = (8, 32)
    with pytest.raises(ConfigError, match=r"twice as coarse .* \[8, 32\]"):
        FPN(pools, ["res4", "res5"], 8)


def test_without_features_there_is_no_pyramid() -> None:
    with pytest.raises(ConfigError, match="IN_FEATURES is empty"):
        FPN(Pools(), [], 8)


def test_an_unknown_fusion_is_refused() -> None:
    with pytest.raises(ConfigError, match="FUSE_TYPE is 'max'"):
        two_levels(fuse_type="max")


def test_a_last_level_needs_the_level_that_it_is_made_of() -> None:
    with pytest.raises(ConfigError, match="p5"):
        FPN(Pools(), ["res4"], 8, top_block=LastLevelMaxPool())


def test_an_unknown_backbone_is_named_with_the_closest_known_one(cfg: Config) -> None:
    wrong = cfg.override("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbon")
    with pytest.raises(ConfigError, match="Did you mean build_resnet_fpn_backbone"):
        build_backbone(wrong)


def test_what_is_registered_must_return_a_backbone(
    cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_identity(cfg: Config, input_shape: ShapeSpec) -> nn.Module:
        return nn.Identity()

    monkeypatch.setitem(BACKBONE_REGISTRY._components, "build_identity", build_identity)
    with pytest.raises(ConfigError, match="build_identity returned no Backbone"):
        build_backbone(cfg.override("MODEL.BACKBONE.NAME", "build_identity"))


def test_a_backbone_gets_as_many_channels_as_the_mean_has(
    cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def build_pools(cfg: Config, input_shape: ShapeSpec) -> Backbone:
        seen.append(input_shape)
        return Pools()

    monkeypatch.setitem(BACKBONE_REGISTRY._components, "build_pools", build_pools)
    build_backbone(
        cfg.override("MODEL.BACKBONE.NAME", "build_pools").override(
            "MODEL.PIXEL_MEAN", [1.0, 2.0, 3.0, 4.0]
        )
    )
    assert seen == [ShapeSpec(channels=4)]


def test_the_interface_alone_computes_nothing() -> None:
    backbone = Backbone()
    assert backbone.size_divisibility == 0
    with pytest.raises(NotImplementedError):
        backbone(torch.zeros(1, 3, 8, 8))
    with pytest.raises(NotImplementedError):
        backbone.output_shape()


@pytest.mark.parametrize(("source", "channels"), [("res5", 3), ("p5", 8)])
def test_two_convolved_levels_are_made_of_res5_or_p5(source: str, channels: int) -> None:
    fpn = two_levels(top_block=LastLevelP6P7(channels, 8, source))
    x = torch.randn(1, 3, 128, 128)
    levels = fpn(x)
    assert list(levels) == list(fpn.output_shape()) == ["p4", "p5", "p6", "p7"]
    made_of = fpn.bottom_up(x)["res5"] if source == "res5" else levels["p5"]
    p6 = F.conv2d(made_of, fpn.top_block.p6.weight, fpn.top_block.p6.bias, stride=2, padding=1)
    torch.testing.assert_close(levels["p6"], p6)
    rectified = p6.clamp(min=0)
    p7 = F.conv2d(rectified, fpn.top_block.p7.weight, fpn.top_block.p7.bias, stride=2, padding=1)
    torch.testing.assert_close(levels["p7"], p7)
    assert fpn.output_shape()["p7"] == ShapeSpec(channels=8, stride=128)


def test_convolved_levels_do_not_change_what_the_input_must_be_divisible_by() -> None:
    assert two_levels(top_block=LastLevelP6P7(3, 8)).size_divisibility == 32


def test_the_pyramid_of_retinanet_has_levels_p3_to_p7(cfg: Config) -> None:
    cfg = cfg.override("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone")
    cfg = cfg.override("MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"])
    cfg = cfg.override("MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"])
    with torch.device("meta"):
        fpn = build_backbone(cfg)
    assert list(fpn.output_shape()) == ["p3", "p4", "p5", "p6", "p7"]
    assert fpn.top_block.p6.in_channels == fpn.bottom_up.output_shape()["res5"].channels


def test_the_pyramid_of_retinanet_needs_res5(cfg: Config) -> None:
    cfg = cfg.override("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone")
    cfg = cfg.override("MODEL.RESNETS.OUT_FEATURES", ["res3", "res4"])
    with pytest.raises(ConfigError, match="makes p6 of res5"):
        build_backbone(cfg)
