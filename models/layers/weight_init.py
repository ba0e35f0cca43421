"""How new layers start, by the names used in the papers; it matters for training only."""

from __future__ import annotations

from torch import nn


def c2_msra_fill(module: nn.Conv2d | nn.Linear) -> None:
    """Kaiming normal, fan out (He et al. 2015); bias 0. In place."""
    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if module.bias is not None:
        nn.init.constant_(module.bias, 0)


def c2_xavier_fill(module: nn.Conv2d | nn.Linear) -> None:
    """Caffe2's XavierFill, which is Kaiming uniform with a = 1; bias 0. In place."""
    nn.init.kaiming_uniform_(module.weight, a=1)
    if module.bias is not None:
        nn.init.constant_(module.bias, 0)
