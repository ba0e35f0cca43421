"""The learning rate by iteration: Detectron2's schedules, and what a batch of another size does."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from models.config import Config, default_config
from models.errors import ConfigError
from models.training.schedule import (
    learning_rate_factor,
    scaled_to_batch,
    schedule_warning,
    set_learning_rates_,
    with_scaled_learning_rate,
)


def _config(**solver: Any) -> Config:
    defaults = {"MAX_ITER": 100, "STEPS": (60, 80), "WARMUP_ITERS": 10, "WARMUP_FACTOR": 0.001}
    cfg = default_config()
    for key, value in {**defaults, **solver}.items():
        cfg = cfg.override(f"SOLVER.{key}", value)
    return cfg


def _factors(cfg: Config, *iterations: int) -> list[float]:
    return [learning_rate_factor(cfg, iteration) for iteration in iterations]


def test_warmup_rises_in_a_line_and_steps_fall_where_they_say() -> None:
    factors = _factors(_config(), 0, 1, 5, 9, 10, 59, 60, 79, 80, 99)

    warmup = [0.001 + 0.999 * i / 10 for i in (0, 1, 5, 9)]
    assert factors == pytest.approx([*warmup, 1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-12)


def test_constant_warmup_holds_its_factor() -> None:
    cfg = _config(WARMUP_METHOD="constant", WARMUP_FACTOR=0.25)
    assert _factors(cfg, 0, 9, 10) == [0.25, 0.25, 1.0]


def test_without_warmup_the_first_step_has_the_full_rate() -> None:
    assert _factors(_config(WARMUP_ITERS=0), 0, 1) == [1.0, 1.0]


def test_a_step_inside_the_warmup_bends_what_it_rises_to() -> None:
    cfg = _config(STEPS=(5,), WARMUP_FACTOR=0.0)
    assert _factors(cfg, 5, 10) == pytest.approx([0.05, 0.1])


def test_cosine_falls_from_where_the_warmup_ends_to_the_last_rate() -> None:
    cfg = _config(LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR=0.5, BASE_LR_END=0.05)

    def cosine(progress: float) -> float:
        return 0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2

    expected = [0.5 * cosine(0.1) + 0.0005, cosine(0.1), cosine(0.5), 0.1]
    assert _factors(cfg, 5, 10, 50, 100) == pytest.approx(expected, rel=1e-12)


def test_a_rescaled_cosine_begins_where_the_warmup_ends() -> None:
    cfg = _config(LR_SCHEDULER_NAME="WarmupCosineLR", RESCALE_INTERVAL=True, WARMUP_FACTOR=0.0)
    assert _factors(cfg, 5, 10, 55, 100) == pytest.approx([0.5, 1.0, 0.5, 0.0], abs=1e-12)


def test_rescaled_steps_are_shares_of_what_follows_the_warmup() -> None:
    cfg = _config(RESCALE_INTERVAL=True, STEPS=(50,))
    assert _factors(cfg, 54, 55) == pytest.approx([1.0, 0.1])


def test_fixed_gamma_falls_after_stretches_of_equal_length() -> None:
    cfg = _config(LR_SCHEDULER_NAME="WarmupStepWithFixedGammaLR", NUM_DECAYS=3, GAMMA=0.5)
    assert _factors(cfg, 24, 25, 49, 50, 75, 99, 100) == [1, 0.5, 0.5, 0.25, 0.125, 0.125, 0.125]


def test_rounding_never_moves_a_step() -> None:
    cfg = _config(MAX_ITER=270_000, STEPS=(210_000, 250_000))
    iterations = (209_999, 210_000, 249_999, 250_000)
    assert _factors(cfg, *iterations) == pytest.approx([1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("rescale", [False, True])
def test_a_warmup_longer_than_the_training_lasts_all_of_it(rescale: bool) -> None:
    cfg = _config(MAX_ITER=10, STEPS=(), WARMUP_ITERS=1000, RESCALE_INTERVAL=rescale)
    assert _factors(cfg, 5, 10) == pytest.approx([0.5005, 1.0])


def test_after_the_end_the_last_value_stays() -> None:
    assert _factors(_config(), 100, 1000) == pytest.approx([0.01, 0.01])


def test_steps_after_the_end_are_ignored_and_named() -> None:
    cfg = _config(STEPS=(60, 100, 200))

    assert learning_rate_factor(cfg, 99) == pytest.approx(0.1)
    assert schedule_warning(cfg) == (
        "SOLVER.STEPS 100, 200 is ignored: the training ends at SOLVER.MAX_ITER 100, so the learning "
        "rate never falls there."
    )


@pytest.mark.parametrize("name", ["WarmupMultiStepLR", "WarmupCosineLR"])
def test_there_is_no_warning_where_all_steps_count(name: str) -> None:
    steps = (60, 80) if name == "WarmupMultiStepLR" else (200,)
    assert schedule_warning(_config(LR_SCHEDULER_NAME=name, STEPS=steps)) is None


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ({"LR_SCHEDULER_NAME": "Cosine"}, "known: WarmupMultiStepLR, WarmupCosineLR"),
        ({"WARMUP_METHOD": "burnin"}, "use linear or constant"),
        ({"MAX_ITER": 0}, "MAX_ITER is 0"),
        ({"WARMUP_ITERS": -1}, "at least 0"),
        ({"STEPS": (80, 60)}, "must be above 0 and increase"),
        ({"STEPS": (0, 60)}, "must be above 0 and increase"),
        ({"GAMMA": 0.0}, "GAMMA is 0.0"),
        ({"LR_SCHEDULER_NAME": "WarmupStepWithFixedGammaLR", "NUM_DECAYS": -1}, "NUM_DECAYS is -1"),
        (
            {"LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR_END": 1.0},
            "between 0 and SOLVER.BASE_LR",
        ),
    ],
)
def test_a_section_that_describes_no_schedule_is_refused(
    solver: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        learning_rate_factor(_config(**solver), 0)


def test_each_group_keeps_its_share_of_the_rate() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [
        {"params": [w], "lr": r, "initial_lr": r} for w, r in zip(weights, (0.5, 0.25), strict=True)
    ]
    optimizer = torch.optim.SGD(groups)

    for _ in range(2):  # again changes nothing
        rate = set_learning_rates_(optimizer, _config(BASE_LR=0.5), 60)
        assert rate == pytest.approx(0.05)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.025])


def test_a_quarter_of_the_batch_means_a_quarter_of_the_rate_and_four_times_the_iterations() -> None:
    cfg = _config(IMS_PER_BATCH=16, BASE_LR=0.02, BASE_LR_END=0.002, CHECKPOINT_PERIOD=50)
    cfg = cfg.override("TEST.EVAL_PERIOD", 20).override("SOLVER.REFERENCE_WORLD_SIZE", 8)

    scaled = scaled_to_batch(cfg, 4)

    solver = scaled.SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.BASE_LR_END) == (4, 0.005, 0.0005)
    assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (400, (240, 320), 40)
    assert (solver.CHECKPOINT_PERIOD, scaled.TEST.EVAL_PERIOD) == (200, 80)
    assert solver.REFERENCE_WORLD_SIZE == 0
    assert cfg.SOLVER.IMS_PER_BATCH == 16


def test_a_scaled_training_has_the_same_curve_over_images() -> None:
    cfg = _config(IMS_PER_BATCH=4, BASE_LR_END=0.0005, LR_SCHEDULER_NAME="WarmupCosineLR")
    scaled = scaled_to_batch(cfg, 2)
    assert _factors(scaled, 0, 10, 120, 200) == pytest.approx(_factors(cfg, 0, 5, 60, 100))


def test_scaling_leaves_a_period_at_one_iteration_and_never_at_never() -> None:
    cfg = _config(IMS_PER_BATCH=2, CHECKPOINT_PERIOD=3)
    scaled = scaled_to_batch(cfg, 16)
    assert (scaled.SOLVER.CHECKPOINT_PERIOD, scaled.TEST.EVAL_PERIOD) == (1, 0)


def test_the_rate_alone_can_be_scaled() -> None:
    cfg = _config(IMS_PER_BATCH=16, BASE_LR=0.02)

    scaled = with_scaled_learning_rate(cfg, 8)

    assert (scaled.SOLVER.IMS_PER_BATCH, scaled.SOLVER.BASE_LR) == (8, 0.01)
    assert (scaled.SOLVER.MAX_ITER, scaled.SOLVER.STEPS) == (100, (60, 80))


def test_the_same_batch_changes_nothing() -> None:
    cfg = _config(IMS_PER_BATCH=16)
    assert scaled_to_batch(cfg, 16) == cfg


@pytest.mark.parametrize(("before", "after"), [(16, 0), (0, 16)])
def test_a_batch_without_images_is_refused(before: int, after: int) -> None:
    with pytest.raises(ConfigError, match="both must be at least 1"):
        scaled_to_batch(_config(IMS_PER_BATCH=before), after)
