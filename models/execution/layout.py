"""Channels-last memory for a whole model: faster convolutions, the same numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.execution.folding import Undo
from models.heads.box_head import FastRCNNConvFCHead


class FlattenChannelsLast(nn.Module):
    """(R, C, H, W) -> (R, H * W * C): without a copy where the memory is channels-last."""

    def forward(self, x: Tensor) -> Tensor:
        """Flatten."""
        return x.permute(0, 2, 3, 1).flatten(1)


def use_channels_last_(model: nn.Module) -> list[Undo]:
    """Bring convolutions into channels-last memory, and box heads into that order of features.

    Returns:
        What undoes it.
    """
    undo = [_reorder_features(head) for head in model.modules() if _has_linear_layers(head)]
    model.to(memory_format=torch.channels_last)

    def restore() -> None:
        model.to(memory_format=torch.contiguous_format)

    return [*undo, restore]


def _has_linear_layers(module: nn.Module) -> bool:
    return type(module) is FastRCNNConvFCHead and hasattr(module, "fc1")


def _reorder_features(head: nn.Module) -> Undo:
    """The first linear layer takes its input as (H, W, C) instead of (C, H, W)."""
    flatten, linear = head.flatten, head.fc1
    assert isinstance(head, FastRCNNConvFCHead)
    assert isinstance(linear, nn.Linear)
    weight = linear.weight
    channels, height, width = head.pooled_shape
    by_channel = weight.detach().view(-1, channels, height, width)
    linear.weight = nn.Parameter(
        by_channel.permute(0, 2, 3, 1).flatten(1).contiguous(), requires_grad=False
    )
    head.flatten = FlattenChannelsLast()

    def undo() -> None:
        linear.weight = weight
        head.flatten = flatten

    return undo
