"""Deformable convolution against its definition, tap by tap."""

import pytest
import torch
from slow_deform_conv import slow_deform_conv
from torch import nn

from models.layers.deform_conv import DeformConv2d

CASES = [
    {"stride": 1, "padding": 1},
    {"stride": 2, "padding": 1},
    {"padding": 2, "dilation": 2},
    {"padding": 1, "deform_groups": 2},
]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_it_equals_the_slow_reference(case: dict[str, int], modulated: bool, groups: int) -> None:
    torch.manual_seed(0)
    layout = {key: value for key, value in case.items() if key != "deform_groups"}
    deform_groups = case.get("deform_groups", 1)
    conv = DeformConv2d(4, 6, 3, groups=groups, **layout)
    size = (4, 5) if case.get("stride", 1) == 1 else (2, 3)
    x = torch.randn(2, 4, 4, 5)
    offset = torch.randn(2, 2 * 9 * deform_groups, *size) * 2  # some taps leave the image
    mask = torch.rand(2, 9 * deform_groups, *size) if modulated else None
    expected = slow_deform_conv(x, offset, conv.weight.detach(), mask, **case)
    torch.testing.assert_close(conv(x, offset, mask), expected, rtol=1e-4, atol=1e-5)


def test_without_offsets_it_is_a_plain_convolution_and_its_norm() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6).eval()
    conv = DeformConv2d(4, 6, 3, padding=1, norm=norm)
    x = torch.randn(2, 4, 5, 7)
    expected = norm(torch.nn.functional.conv2d(x, conv.weight, padding=1))
    torch.testing.assert_close(conv(x, torch.zeros(2, 18, 5, 7)), expected)


def test_parameters_have_the_names_of_checkpoints() -> None:
    assert list(DeformConv2d(4, 6, 3).state_dict()) == ["weight"]
    assert "norm.weight" in DeformConv2d(4, 6, 3, norm=nn.BatchNorm2d(6)).state_dict()
