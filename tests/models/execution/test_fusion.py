"""Convolutions with their ReLU in one kernel: equal numbers, and what is not known stays as it is."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.backbones.resnet import BasicBlock, BasicStem, BottleneckBlock
from models.execution.folding import fold_norms_
from models.execution.fusion import fuse_relus_
from models.layers import Conv2d

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_convolution_pointwise"), reason="this PyTorch has no oneDNN"
)

BLOCKS = {
    "stem": lambda: BasicStem(3, 8, norm="FrozenBN"),
    "basic": lambda: BasicBlock(3, 8, stride=2, norm="FrozenBN"),
    "bottleneck": lambda: BottleneckBlock(3, 16, bottleneck_channels=8, norm="FrozenBN"),
    "grouped": lambda: BottleneckBlock(
        3, 16, bottleneck_channels=8, num_groups=2, dilation=2, norm="FrozenBN"
    ),
    "same": lambda: nn.Sequential(
        BottleneckBlock(3, 8, bottleneck_channels=4, norm="FrozenBN"),
        BottleneckBlock(8, 8, bottleneck_channels=4, norm="FrozenBN"),
    ),
    "conv": lambda: Conv2d(3, 8, 3, padding=1, activation=F.relu_),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@torch.no_grad()
def test_a_fused_block_computes_the_same(name: str, layout: torch.memory_format) -> None:
    block = BLOCKS[name]().eval()
    x = torch.randn(2, 3, 17, 13).contiguous(memory_format=layout)
    given = x.clone()
    expected = block(x)
    fold_norms_(block)
    block.to(memory_format=layout)
    undo = fuse_relus_(block)
    assert undo
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(x, given)
    for step in undo:
        step()
    assert "forward" not in vars(block)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["conv", "basic", "bottleneck"])
@torch.no_grad()
def test_an_empty_batch_passes(name: str) -> None:
    block = BLOCKS[name]().eval()
    fold_norms_(block)
    fuse_relus_(block)
    assert block(torch.zeros(0, 3, 16, 16)).shape[0] == 0


class OwnBlock(BottleneckBlock):
    """Somebody's block, with a forward of its own."""


@pytest.mark.parametrize(
    "module",
    [
        BottleneckBlock(8, 8, bottleneck_channels=4, norm=lambda c: nn.GroupNorm(4, c)),
        OwnBlock(8, 8, bottleneck_channels=4, norm=""),
        Conv2d(3, 8, 3, activation=torch.tanh),
        Conv2d(3, 8, 3, activation=F.relu_, padding_mode="reflect", padding=1),
        nn.Conv2d(3, 8, 3),
    ],
    ids=["norm", "subclass", "tanh", "reflect", "no_activation"],
)
def test_what_is_not_known_stays_as_it_is(module: nn.Module) -> None:
    assert fuse_relus_(module) == []
