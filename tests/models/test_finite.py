"""Numbers that are none, wherever in a model they are."""

import pytest
import torch
from tiny_models import tiny_model
from torch import nn

from models.finite import first_not_finite

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("number", [NAN, INF, -INF])
def test_a_bad_number_in_any_tensor_of_a_checkpoint_is_found(number: float) -> None:
    model = tiny_model(MASK_ON=True)
    floating = {n: t for n, t in model.state_dict().items() if t.is_floating_point()}
    assert len(floating) > 10
    for name, tensor in floating.items():
        last = tensor.view(-1)[-1:]
        before = last.clone()
        last.fill_(number)
        assert first_not_finite(model) == f"{name} (float32)"
        last.copy_(before)
    assert first_not_finite(model) is None


@pytest.mark.parametrize("number", [NAN, INF])
def test_the_statistics_of_norms_count_as_weights(number: float) -> None:
    norm = nn.BatchNorm2d(3)
    norm.get_buffer("running_var")[1] = number
    assert first_not_finite(norm) == "running_var (float32)"


def test_the_number_format_is_told_since_half_precision_overflows() -> None:
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, 1e6)
    assert first_not_finite(model) is None
    assert first_not_finite(model.half()) == "weight (float16)"


def test_what_the_code_computes_may_be_infinite_but_not_nan() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("attention_mask", torch.tensor([0.0, -INF]), persistent=False)
    assert first_not_finite(model) is None
    model.get_buffer("attention_mask")[0] = NAN
    assert first_not_finite(model) == "attention_mask (float32)"


def test_a_model_without_weights_has_none_that_are_bad() -> None:
    assert first_not_finite(nn.ReLU()) is None
