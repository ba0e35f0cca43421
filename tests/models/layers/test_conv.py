"""Conv2d: a convolution with its norm and activation."""

import torch
import torch.nn.functional as F
from torch import nn

from models.layers import Conv2d


def test_norm_comes_before_activation() -> None:
    conv = Conv2d(3, 4, 3, padding=1, bias=False, norm=nn.BatchNorm2d(4), activation=F.relu).eval()
    conv.norm.running_mean.fill_(0.3)
    x = torch.randn(2, 3, 5, 5)
    plain = F.conv2d(x, conv.weight, padding=1)
    torch.testing.assert_close(conv(x), F.relu(conv.norm(plain)))


def test_without_norm_and_activation_it_is_a_plain_convolution() -> None:
    conv = Conv2d(3, 4, 3, stride=2)
    x = torch.randn(1, 3, 7, 7)
    assert torch.equal(conv(x), F.conv2d(x, conv.weight, conv.bias, stride=2))


def test_the_norm_is_named_as_in_checkpoints() -> None:
    conv = Conv2d(3, 4, 1, bias=False, norm=nn.BatchNorm2d(4))
    assert {"weight", "norm.weight", "norm.running_var"} <= set(conv.state_dict())


def test_no_regions_in_no_regions_out() -> None:
    conv = Conv2d(3, 4, 3, padding=1, norm=nn.GroupNorm(2, 4), activation=F.relu)
    assert conv(torch.zeros(0, 3, 14, 14)).shape == (0, 4, 14, 14)
