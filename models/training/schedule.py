"""The learning rate as a function of the iteration, and how it follows the size of a batch.

Detectron2's schedules (its SOLVER section) without a stateful scheduler: resuming at an iteration
needs nothing but the iteration.
"""

from __future__ import annotations

import math
from bisect import bisect_right

import torch

from models.config import Config
from models.errors import ConfigError

_SHAPES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
_WARMUPS = ("linear", "constant")
# Of Detectron2's configs of COCO (Base-RCNN-FPN.yaml), and how far above it is worth a word.
_USUAL_RATE, _USUAL_BATCH, _MUCH = 0.02, 16, 4

# A share of the whole training that counts as nothing; Detectron2 (fvcore) adds it before it cuts a
# progress down to a whole number of iterations, so that rounding never delays a decay.
_EPSILON = 1e-6


def learning_rate_factor(cfg: Config, iteration: int) -> float:
    """What the base learning rate is multiplied by in the step of ``iteration`` (the first is 0).

    WARMUP_FACTOR of the start, rising over WARMUP_ITERS (or held, if WARMUP_METHOD is constant) to
    what the schedule says there; then the schedule of LR_SCHEDULER_NAME. With RESCALE_INTERVAL the
    schedule begins only where the warm-up ends. From MAX_ITER on the last value stays.

    Raises:
        ConfigError: the SOLVER section describes no schedule; says which key and why.
    """
    check_schedule(cfg)
    solver = cfg.SOLVER
    warmup_iters = min(solver.WARMUP_ITERS, solver.MAX_ITER)
    progress = min(iteration / solver.MAX_ITER, 1.0)
    warmup = warmup_iters / solver.MAX_ITER
    if iteration >= warmup_iters:
        if solver.RESCALE_INTERVAL and warmup < 1:
            progress = (progress - warmup) / (1 - warmup)
        return _shape(cfg, progress)
    start = solver.WARMUP_FACTOR * _shape(cfg, 0.0)
    if solver.WARMUP_METHOD == "constant":
        return float(start)
    end = _shape(cfg, 0.0 if solver.RESCALE_INTERVAL else warmup)
    risen = iteration / warmup_iters
    return float(end * risen + start * (1 - risen))


def set_learning_rates_(optimizer: torch.optim.Optimizer, cfg: Config, iteration: int) -> float:
    """Gives each group its ``initial_lr`` times the factor of ``iteration``.

    Returns:
        The learning rate of a group without a factor of its own: BASE_LR times the factor.

    Raises:
        ConfigError: as :func:`learning_rate_factor`.
    """
    factor = learning_rate_factor(cfg, iteration)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return float(cfg.SOLVER.BASE_LR * factor)


def check_schedule(cfg: Config) -> None:
    """Raises ConfigError where the SOLVER section describes no schedule; says which key and why."""
    solver = cfg.SOLVER
    name, steps = solver.LR_SCHEDULER_NAME, list(solver.STEPS)
    if name not in _SHAPES:
        known = ", ".join(_SHAPES)
        raise ConfigError(f"SOLVER.LR_SCHEDULER_NAME is {name!r}; known: {known}.")
    if solver.WARMUP_METHOD not in _WARMUPS:
        known = " or ".join(_WARMUPS)
        raise ConfigError(f"SOLVER.WARMUP_METHOD is {solver.WARMUP_METHOD!r}; use {known}.")
    if solver.MAX_ITER < 1:
        raise ConfigError(f"SOLVER.MAX_ITER is {solver.MAX_ITER}; it must be at least 1.")
    if solver.WARMUP_ITERS < 0 or solver.WARMUP_FACTOR < 0:
        raise ConfigError("SOLVER.WARMUP_ITERS and SOLVER.WARMUP_FACTOR must be at least 0.")
    if name == "WarmupMultiStepLR" and (steps != sorted(set(steps)) or (steps and steps[0] < 1)):
        raise ConfigError(
            f"SOLVER.STEPS is {tuple(steps)}; the iterations at which the learning rate falls must "
            "be above 0 and increase."
        )
    if name == "WarmupStepWithFixedGammaLR" and solver.NUM_DECAYS < 0:
        raise ConfigError(f"SOLVER.NUM_DECAYS is {solver.NUM_DECAYS}; it must be at least 0.")
    if name != "WarmupCosineLR" and not solver.GAMMA > 0:
        raise ConfigError(f"SOLVER.GAMMA is {solver.GAMMA}; it must be above 0.")
    if name == "WarmupCosineLR" and not 0 <= solver.BASE_LR_END <= solver.BASE_LR:
        raise ConfigError(
            f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}; it must be between 0 and SOLVER.BASE_LR, "
            f"{solver.BASE_LR}."
        )


def schedule_warning(cfg: Config) -> str | None:
    """A sentence on what the schedule will not do although the config names it; None: it does all."""
    solver = cfg.SOLVER
    unreached = [step for step in solver.STEPS if step >= solver.MAX_ITER]
    if solver.LR_SCHEDULER_NAME != "WarmupMultiStepLR" or not unreached:
        return None
    steps = ", ".join(str(step) for step in unreached)
    return (
        f"SOLVER.STEPS {steps} is ignored: the training ends at SOLVER.MAX_ITER {solver.MAX_ITER}, so "
        "the learning rate never falls there."
    )


def learning_rate_warning(cfg: Config) -> str | None:
    """A sentence on a learning rate that is far above Detectron2's own for so small a batch."""
    solver = cfg.SOLVER
    usual = _USUAL_RATE * solver.IMS_PER_BATCH / _USUAL_BATCH
    if solver.IMS_PER_BATCH < 1 or _MUCH * usual > solver.BASE_LR:
        return None
    return (
        f"SOLVER.BASE_LR {solver.BASE_LR:g} is {solver.BASE_LR / usual:.0f} times what Detectron2's configs "
        f"have for {solver.IMS_PER_BATCH} pictures an iteration ({_USUAL_RATE:g} for {_USUAL_BATCH}): the "
        f"losses may become nan. In proportion it is {usual:g}."
    )


def scaled_to_batch(cfg: Config, ims_per_batch: int) -> Config:
    """The same training with ``ims_per_batch`` images per step: as many images, seen in other batches.

    Detectron2's linear rule (Goyal et al. 2017): the learning rates grow with the batch; MAX_ITER,
    STEPS, WARMUP_ITERS, CHECKPOINT_PERIOD and TEST.EVAL_PERIOD shrink with it. REFERENCE_WORLD_SIZE
    becomes 0, since the batch is now chosen and not to be scaled once more.

    Raises:
        ConfigError: the size of either batch is below 1.
    """
    scaled = with_scaled_learning_rate(cfg, ims_per_batch)
    scale = ims_per_batch / cfg.SOLVER.IMS_PER_BATCH
    for key in ("SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD"):
        count = cfg[key]  # 0 means never, which stays; a period stays one
        scaled = scaled.override(key, max(1, round(count / scale)) if count > 0 else count)
    steps = tuple(round(step / scale) for step in cfg.SOLVER.STEPS)
    scaled = scaled.override("SOLVER.STEPS", steps)
    return scaled.override("SOLVER.WARMUP_ITERS", round(cfg.SOLVER.WARMUP_ITERS / scale))


def with_scaled_learning_rate(cfg: Config, ims_per_batch: int) -> Config:
    """``ims_per_batch`` images per step, learning rates (BASE_LR, BASE_LR_END) in proportion.

    The lengths stay as they are; :func:`scaled_to_batch` scales these too.

    Raises:
        ConfigError: the size of either batch is below 1.
    """
    solver = cfg.SOLVER
    if min(ims_per_batch, solver.IMS_PER_BATCH) < 1:
        raise ConfigError(
            f"A batch of {ims_per_batch} images cannot be made of SOLVER.IMS_PER_BATCH "
            f"{solver.IMS_PER_BATCH}; both must be at least 1."
        )
    scale = ims_per_batch / solver.IMS_PER_BATCH
    return (
        cfg.override("SOLVER.IMS_PER_BATCH", ims_per_batch)
        .override("SOLVER.BASE_LR", float(solver.BASE_LR * scale))
        .override("SOLVER.BASE_LR_END", float(solver.BASE_LR_END * scale))
        .override("SOLVER.REFERENCE_WORLD_SIZE", 0)
    )


def _shape(cfg: Config, progress: float) -> float:
    """The schedule without its warm-up, where ``progress`` (0 .. 1) of it is done."""
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        end = solver.BASE_LR_END / solver.BASE_LR
        return float(end + 0.5 * (1 - end) * (1 + math.cos(math.pi * progress)))
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        steps = [step for step in solver.STEPS if step < solver.MAX_ITER]
        decays = bisect_right(steps, int((progress + _EPSILON) * solver.MAX_ITER))
    else:  # NUM_DECAYS + 1 stretches of equal length
        decays = min(int((progress + _EPSILON) * (solver.NUM_DECAYS + 1)), solver.NUM_DECAYS)
    return float(solver.GAMMA**decays)
