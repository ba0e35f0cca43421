"""Convolutions with fewer products: what PyTorch's convolution gives, nearly to the last bit."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.backbones.resnet import BasicBlock
from models.execution.winograd import use_winograd_
from models.layers import Conv2d


def wide(**options: object) -> Conv2d:
    arguments = {"kernel_size": 3, "padding": 1} | options
    return Conv2d(128, 160, **arguments)


def image(number: int = 1, height: int = 48, width: int = 52) -> torch.Tensor:
    x = torch.randn(number, 128, height, width)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "size", [(1, 48, 52), (1, 47, 49), (3, 45, 50), (60, 7, 6), (300, 1, 1), (1, 2, 600)]
)
@pytest.mark.parametrize("activation", [None, F.relu_, torch.tanh])
@torch.inference_mode()
def test_it_equals_the_convolution(size: tuple[int, int, int], activation: object) -> None:
    conv = wide(activation=activation)
    x = image(*size)
    given = x.clone()
    exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    exact = exact if activation is None else activation(exact)
    assert len(use_winograd_(conv)) == 1
    out = conv(x)
    assert out.shape == exact.shape
    assert torch.equal(x, given)
    assert (out - exact).abs().max() < 3e-5
    assert (out - exact).square().mean().sqrt() < 3e-6


@torch.inference_mode()
def test_an_image_does_not_depend_on_its_batch_mates() -> None:
    conv = wide(bias=False)
    use_winograd_(conv)
    batch = image(5, 30, 30)
    together = conv(batch)
    for i in range(5):
        alone = conv(batch[i : i + 1].contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "conv",
    [
        wide(stride=2),
        wide(padding=0),
        wide(dilation=2, padding=2),
        wide(groups=2),
        wide(kernel_size=1, padding=0),
        wide(padding_mode="reflect"),
        wide(norm=nn.GroupNorm(4, 160)),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(512, 512, 3, padding=1),
        nn.Conv2d(128, 128, 3, padding=1).double(),
        BasicBlock(128, 128, norm=""),
    ],
    ids=lambda conv: str(conv)[:60],
)
def test_other_layers_are_left_alone(conv: nn.Module) -> None:
    assert use_winograd_(conv) == []


@pytest.mark.parametrize(
    "x",
    [
        image(1, 8, 8),
        image(0),
        torch.randn(1, 128, 48, 52),
    ],
    ids=["small", "empty", "contiguous"],
)
@torch.inference_mode()
def test_other_inputs_go_the_usual_way(x: torch.Tensor) -> None:
    conv = wide()
    expected = conv(x)
    use_winograd_(conv)
    assert torch.equal(conv(x), expected)


def test_gradients_flow() -> None:
    conv = wide()
    use_winograd_(conv)
    conv(image()).sum().backward()
    assert conv.weight.grad is not None


@torch.inference_mode()
def test_undoing_leaves_the_convolution_as_it_was() -> None:
    conv = wide(activation=F.relu_)
    x = image()
    expected = conv(x)
    for undo in use_winograd_(conv):
        undo()
    assert "forward" not in vars(conv)
    assert torch.equal(conv(x), expected)
