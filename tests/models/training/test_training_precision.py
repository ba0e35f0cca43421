"""What the config says about float32 on a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from models.config import default_config
from models.errors import ConfigError
from models.training.precision import use_precision

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark
    yield
    cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark = before


def switches() -> tuple[bool, bool, bool]:
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    return cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark


@pytest.mark.parametrize(("precision", "tf32"), [("highest", False), ("high", True)])
def test_a_precision_is_that_of_convolutions_and_products(precision: str, tf32: bool) -> None:
    use_precision(default_config().override("FLOAT32_PRECISION", precision), GPU)
    assert switches()[:2] == (tf32, tf32)


def test_no_precision_leaves_what_there_is() -> None:
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False
    use_precision(default_config().override("CUDNN_BENCHMARK", True), GPU)
    assert switches() == (True, False, True)


def test_a_cpu_has_no_such_switches() -> None:
    before = switches()
    cfg = default_config().override("FLOAT32_PRECISION", "high").override("CUDNN_BENCHMARK", True)
    use_precision(cfg, torch.device("cpu"))
    assert switches() == before


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="FLOAT32_PRECISION is 'tf32'"):
        use_precision(default_config().override("FLOAT32_PRECISION", "tf32"), GPU)
