"""Channels-last memory: the same numbers, and box heads that take them without a copy."""

import pytest
import torch
from torch import nn

from models.execution.layout import use_channels_last_
from models.heads import FastRCNNConvFCHead
from models.layers import ShapeSpec


@pytest.mark.parametrize("conv_dims", [[], [6]])
@torch.no_grad()
def test_a_box_head_answers_the_same_and_can_be_restored(conv_dims: list[int]) -> None:
    head = FastRCNNConvFCHead(
        ShapeSpec(channels=4, height=3, width=5), conv_dims=conv_dims, fc_dims=[7, 2]
    )
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    x = torch.randn(6, 4, 3, 5)
    expected = head(x)
    undo = use_channels_last_(head)
    for layout in (torch.channels_last, torch.contiguous_format):
        torch.testing.assert_close(head(x.contiguous(memory_format=layout)), expected)
    assert not torch.equal(head.fc1.weight, before["fc1.weight"])
    for step in reversed(undo):
        step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items())
    torch.testing.assert_close(head(x), expected)


def test_weights_of_convolutions_are_channels_last() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Linear(3, 3))
    use_channels_last_(model)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
