"""Normalisation layers, selected by the name that a config gives."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import ConfigError

Norm = str | Callable[[int], nn.Module] | None


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters are fixed buffers.

    ``y = (x - running_mean) / sqrt(running_var + eps) * weight + bias``, per channel.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.weight: Tensor
        self.bias: Tensor
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, eps=self.eps
        )

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"num_features={self.num_features}, eps={self.eps}"


class LevelBatchNorm2d(nn.ModuleList):
    """Batch norm of a head that several levels share: one affine, statistics for each level.

    Its state dict has ``weight`` and ``bias``, and ``<level>.running_mean`` and so on.
    """

    def __init__(self, num_levels: int, num_features: int) -> None:
        super().__init__(nn.BatchNorm2d(num_features, affine=False) for _ in range(num_levels))
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor, level: int) -> Tensor:
        """Normalise (N, C, H, W) of ``level``."""
        normalized: Tensor = self[level](x)
        return normalized * self.weight[:, None, None] + self.bias[:, None, None]


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(32, channels)


# The synchronised kinds differ from plain batch norm in training over several processes only.
_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "naiveSyncBN": nn.BatchNorm2d,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": _group_norm,
}


def get_norm(norm: Norm, out_channels: int) -> nn.Module | None:
    """A norm layer for ``out_channels`` channels; None for "" or None.

    Raises:
        ConfigError: the name is not known.
    """
    if norm is None or norm == "":
        return None
    if isinstance(norm, str):
        if norm not in _NORMS:
            raise ConfigError(f"Unknown norm {norm!r}; known: {', '.join(_NORMS)}.", norm=norm)
        return _NORMS[norm](out_channels)
    return norm(out_channels)
