"""The moving average: its arithmetic, its state and how a model borrows it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.errors import CheckpointError
from models.training.ema import ModelEma


def _model(value: float = 0.0) -> nn.BatchNorm1d:
    """Float parameters and statistics, and an integer counter."""
    model = nn.BatchNorm1d(2)
    _set_(model, value)
    return model


def _set_(model: nn.Module, value: float) -> None:
    for tensor in model.state_dict().values():
        tensor.fill_(value)


def test_the_average_moves_by_a_decay_that_warms_up() -> None:
    model, expected = _model(8.0), 8.0
    ema = ModelEma(model, decay=0.25)

    for n, value in enumerate((16.0, -4.0, 2.0)):
        _set_(model, value)
        ema.update(model)
        decay = min(0.25, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value

    for name in ("weight", "bias", "running_mean", "running_var"):
        assert ema.averages[name].tolist() == pytest.approx([expected, expected], rel=1e-6)


def test_whole_numbers_are_copied() -> None:
    model = _model()
    ema = ModelEma(model, decay=0.9)
    _set_(model, 7.0)

    ema.update(model)

    assert ema.averages["num_batches_tracked"].item() == 7


def test_the_averages_are_no_views_of_the_model() -> None:
    model = _model(1.0)
    ema = ModelEma(model, decay=0.9)
    _set_(model, 5.0)
    assert ema.averages["weight"].tolist() == [1.0, 1.0]


def test_swapped_lends_the_averages_and_gives_the_weights_back() -> None:
    model = _model(1.0)
    ema = ModelEma(model, decay=0.9)
    _set_(model, 5.0)
    weight = model.weight

    with ema.swapped(model):
        assert model.weight is weight
        assert model.weight.tolist() == model.running_mean.tolist() == [1.0, 1.0]

    assert model.weight.tolist() == model.running_mean.tolist() == [5.0, 5.0]
    assert ema.averages["weight"].tolist() == [1.0, 1.0]


def test_swapped_gives_the_weights_back_after_an_error_too() -> None:
    model = _model(1.0)
    ema = ModelEma(model, decay=0.9)
    _set_(model, 5.0)

    with pytest.raises(RuntimeError, match="evaluation"), ema.swapped(model):
        raise RuntimeError("evaluation")

    assert model.weight.tolist() == [5.0, 5.0]


def test_an_average_continues_from_its_state_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 3)
    whole = ModelEma(model, decay=0.5)
    whole.update(model)
    saved = {"averages": {k: v.clone() for k, v in whole.averages.items()}, "updates": 1}
    resumed = ModelEma(nn.Linear(3, 3), decay=0.5)
    resumed.load_state_dict(saved)

    with torch.no_grad():
        model.weight.normal_()
    whole.update(model)
    resumed.update(model)

    assert resumed.updates == whole.updates == 2
    assert all(torch.equal(resumed.averages[k], v) for k, v in whole.averages.items())


def test_the_state_survives_a_file_that_may_hold_tensors_only(tmp_path) -> None:
    ema = ModelEma(_model(3.0), decay=0.5)
    torch.save(ema.state_dict(), tmp_path / "ema.pth")
    other = ModelEma(_model(), decay=0.5)

    other.load_state_dict(torch.load(tmp_path / "ema.pth", weights_only=True))

    assert other.averages["weight"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    "state", [{}, {"averages": {}, "updates": 1}, {"averages": 1, "updates": 1}]
)
def test_a_state_of_another_model_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="those of another model"):
        ModelEma(_model(), decay=0.5).load_state_dict(state)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_that_never_moves_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        ModelEma(_model(), decay)
