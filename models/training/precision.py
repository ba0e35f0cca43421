"""How exactly a GPU computes with float32, as the config says."""

from __future__ import annotations

import torch

from models.config import Config
from models.errors import ConfigError

PRECISIONS = ("", "highest", "high", "medium")


def use_precision(cfg: Config, device: torch.device) -> None:
    """Set ``FLOAT32_PRECISION`` and ``CUDNN_BENCHMARK``, for this process from now on; nothing on a CPU.

    "highest" is float32 everywhere; "high" and "medium" let convolutions and products round what
    they take to TF32 (10 bits of 23), which is several times as fast; "" leaves PyTorch's own choice: TF32
    in convolutions alone.

    Raises:
        ConfigError: there is no such precision.
    """
    precision = cfg.FLOAT32_PRECISION
    if precision not in PRECISIONS:
        raise ConfigError(
            f'FLOAT32_PRECISION is {precision!r}; it is "", highest, high or medium.',
            key="FLOAT32_PRECISION",
        )
    if device.type != "cuda":
        return
    torch.backends.cudnn.benchmark = bool(cfg.CUDNN_BENCHMARK)
    if precision:
        torch.backends.cudnn.allow_tf32 = precision != "highest"
        torch.backends.cuda.matmul.allow_tf32 = precision != "highest"
