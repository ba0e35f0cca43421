"""Folding norms into convolutions: the same function in fewer steps, and back."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from models.backbones import build_backbone
from models.backbones.regnet import RegNet, ResBottleneckBlock, SimpleStem
from models.config import default_config
from models.execution.folding import fold_norms_
from models.layers import Conv2d, get_norm
from models.layers.deform_conv import DeformConv2d


def with_statistics(module: nn.Module) -> nn.Module:
    """Norms as if they had been trained."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if getattr(part, "running_var", None) is not None:
            for name in ("running_mean", "bias"):
                getattr(part, name).data.normal_(generator=generator)
            for name in ("running_var", "weight"):
                getattr(part, name).data.uniform_(0.5, 2, generator=generator)
    return module.eval()


def equal(ours: torch.Tensor, expected: torch.Tensor) -> bool:
    """But for the rounding of a deep network: norms that are this random let its numbers grow."""
    return bool((ours - expected).norm() < 1e-4 * expected.norm())


def norms(module: nn.Module) -> int:
    return sum(getattr(part, "running_var", None) is not None for part in module.modules())


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", "SyncBN"])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_a_convolution_with_its_norm_becomes_one_convolution(norm: str, bias: bool) -> None:
    conv = with_statistics(Conv2d(4, 6, 3, groups=2, bias=bias, norm=get_norm(norm, 6)))
    if norm == "SyncBN":
        conv.norm = nn.SyncBatchNorm(6).eval()  # its own CUDA check aside, a batch norm
    x = torch.randn(2, 4, 9, 7)
    expected = conv(x)
    assert len(fold_norms_(conv)) == 1
    assert conv.norm is None
    torch.testing.assert_close(conv(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_deformable_convolution_gets_a_bias() -> None:
    conv = with_statistics(DeformConv2d(4, 6, 3, padding=1, norm=get_norm("FrozenBN", 6)))
    x, offset = torch.randn(1, 4, 8, 8), torch.randn(1, 18, 8, 8)
    expected = conv(x, offset)
    fold_norms_(conv)
    assert conv.norm is None
    torch.testing.assert_close(conv(x, offset), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_all_norms_of_a_resnet_with_a_pyramid_are_folded() -> None:
    cfg = default_config().override("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone")
    cfg = cfg.override("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"])
    cfg = cfg.override("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"])
    backbone = with_statistics(build_backbone(cfg))
    x = torch.randn(1, 3, 64, 64)
    expected = backbone(x)
    before = norms(backbone)
    assert len(fold_norms_(backbone)) == before > 50
    assert norms(backbone) == 0
    assert all(equal(feature, expected[name]) for name, feature in backbone(x).items())


@torch.no_grad()
def test_a_regnet_is_folded() -> None:
    regnet = with_statistics(
        RegNet(
            stem_class=SimpleStem,
            stem_width=8,
            block_class=ResBottleneckBlock,
            depth=4,
            w_a=8.0,
            w_0=8,
            w_m=2.0,
            group_width=8,
            norm="BN",
            out_features=["s2"],
        )
    )
    x = torch.randn(1, 3, 32, 32)
    expected = regnet(x)["s2"]
    fold_norms_(regnet)
    assert norms(regnet) == 0
    assert equal(regnet(x)["s2"], expected)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v3_small"])
@torch.no_grad()
def test_torchvisions_networks_are_folded(name: str) -> None:
    network = with_statistics(getattr(torchvision.models, name)(weights=None))
    x = torch.randn(1, 3, 64, 64)
    expected = network(x)
    fold_norms_(network)
    assert norms(network) == 0
    assert equal(network(x), expected)


class Odd(nn.Module):
    """A norm that is not behind the convolution that it stands behind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(x))


class OddSequence(nn.Sequential):
    """A sequence that runs backwards."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in reversed(self):
            x = layer(x)
        return x


@pytest.mark.parametrize(
    "module",
    [
        Odd(),
        OddSequence(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 32, 1), nn.GroupNorm(32, 32)),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)),
    ],
    ids=["own_order", "own_forward", "group_norm", "no_statistics", "relu_between"],
)
def test_what_is_not_known_to_follow_is_left_alone(module: nn.Module) -> None:
    before = copy.deepcopy(module.state_dict())
    assert fold_norms_(module.eval()) == []
    assert module.state_dict().keys() == before.keys()


@torch.no_grad()
def test_undoing_restores_every_tensor_and_module() -> None:
    network = with_statistics(torchvision.models.resnet18(weights=None))
    before = copy.deepcopy(network.state_dict())
    for undo in reversed(fold_norms_(network)):
        undo()
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_model_in_training_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluation"):
        fold_norms_(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
