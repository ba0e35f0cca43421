"""How a loaded model runs: device, number format, memory layout, and how far that changes answers.

The model's code is plain; everything that makes it faster is done to a built model, from outside,
measured on probe pictures, and undone when it does not hold what it promises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.execution.deviation import Deviation, deviation
from models.execution.folding import Undo, fold_norms_
from models.execution.fusion import fuse_relus_
from models.execution.layout import use_channels_last_
from models.execution.precision import (
    cpu_has_bfloat16,
    heavy_parts,
    speed_of_bfloat16,
    use_half_precision_,
)
from models.execution.winograd import use_winograd_

Mode = Literal["reference", "exact", "fast"]
MODES: tuple[Mode, ...] = ("reference", "exact", "fast")
MIN_BFLOAT16_SPEED = 1.2
"""A CPU that is not faster by this factor in bfloat16 keeps float32: rounding needs a reason."""

Resize = Literal["pil", "fast"]
Inputs = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class ExecutionPlan:
    """How one loaded version runs.

    Attributes:
        mode: what it runs in. ``reference``: float32 as Detectron2 computes it. ``exact``: norms folded
            into convolutions, channels-last memory; the same answers, scores to 1e-4 and boxes to 0.01
            pixels. ``fast``: half precision in backbone and heads.
        requested: what was asked for.
        reason: why ``mode`` is another one; "" when it is not.
        device: such as "cuda:0".
        dtype: of backbone and heads: "float32", "bfloat16" or "float16".
        memory_format: "contiguous" or "channels_last".
        folded_norms: norms that became part of a convolution.
        winograd: convolutions that take fewer products, see :mod:`models.execution.winograd`.
        resize: of pictures in front of the model: "pil" is Detectron2's, bit for bit, "fast" one grey
            level off here and there.
        cuda_graphs: parts of the model, each for one shape, that were recorded at warm-up.
        deviation: from ``reference``, on probe pictures; None in ``reference``, or when not measured.
    """

    mode: Mode
    requested: Mode
    device: str
    reason: str = ""
    dtype: str = "float32"
    memory_format: str = "contiguous"
    folded_norms: int = 0
    winograd: int = 0
    resize: Resize = "pil"
    cuda_graphs: int = 0
    deviation: Deviation | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def apply_mode_(
    model: nn.Module,
    mode: Mode,
    probes: Callable[[Resize], Inputs],
    *,
    resize: Literal["auto", "pil", "fast"] = "auto",
) -> ExecutionPlan:
    """Make ``model`` run in ``mode``, in place.

    Args:
        model: in evaluation mode on its device, with its weights, as built.
        mode: what is asked for.
        probes: inputs of the model to measure the deviation on, made of pictures resized so.
        resize: of the plan; "auto" is "fast" in the fast mode alone.

    Returns:
        What it runs in now: the mode, or a more careful one and the reason.
    """
    device: torch.device = next(tensor.device for tensor in _tensors(model))
    plan = ExecutionPlan("reference", requested=mode, device=str(device))
    if mode == "reference" and resize != "fast":
        return plan
    trial = _Trial(model, probes, _answers(model, probes("pil")))
    if mode != "reference":
        plan = _in_mode(trial, plan, "pil" if resize == "pil" else "fast")
    if resize == "fast" and plan.resize != "fast":
        plan = trial.measured(replace(plan, resize="fast")) or plan
    return plan


@dataclass(frozen=True)
class _Trial:
    """A model on probation: what it answered as it was, and what to ask it again."""

    model: nn.Module
    probes: Callable[[Resize], Inputs]
    reference: list[dict[str, Any]]

    def measured(self, plan: ExecutionPlan) -> ExecutionPlan | None:
        """``plan`` with its deviation; None if the model fails or its numbers are not finite."""
        try:
            answers = _answers(self.model, self.probes(plan.resize))
        except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError):
            # Somebody's module may want its norms, or has an operator without half precision.
            return None
        if not all(math.isfinite(number) for number in _numbers(answers)):
            return None
        return replace(plan, deviation=deviation(self.reference, answers))

    def exact(self, plan: ExecutionPlan) -> ExecutionPlan | None:
        """``plan`` with its deviation; None if that is more than the exact mode promises."""
        measured = self.measured(plan)
        is_exact = measured is not None and measured.deviation and measured.deviation.is_exact
        return measured if is_exact else None


def _in_mode(trial: _Trial, plan: ExecutionPlan, fast_resize: Resize) -> ExecutionPlan:
    """Bring the model into the mode that ``plan`` requests, as far as it holds what that promises."""
    model, on_cpu = trial.model, torch.device(plan.device).type == "cpu"
    why_not_fast = _why_not_fast(model, on_cpu) if plan.requested == "fast" else ""
    wants_half = plan.requested == "fast" and not why_not_fast
    undo = fold_norms_(model)
    exact = replace(plan, mode="exact", folded_norms=len(undo), reason=why_not_fast)
    if on_cpu:
        undo += use_channels_last_(model)
        undo += fuse_relus_(model)
        exact = replace(exact, memory_format="channels_last")
    # On a GPU float32 convolutions have their fast kernels in the usual layout.
    winograd = use_winograd_(model) if on_cpu and not wants_half else []
    measured = trial.exact(replace(exact, winograd=len(winograd)))
    if measured is None and winograd:
        _run(winograd)
        measured = trial.exact(exact)
    if measured is None:
        _run(undo)
        return replace(
            plan, reason="the exact mode changes this model's answers on the probe pictures"
        )
    undo.clear()  # it holds the weights as they were
    return _make_fast(trial, measured, fast_resize) if wants_half else measured


def _why_not_fast(model: nn.Module, on_cpu: bool) -> str:
    """What speaks against half precision before it is tried; "" if nothing does."""
    if not heavy_parts(model):
        return "the fast mode knows no part of this architecture"
    if on_cpu and not cpu_has_bfloat16():
        return "this CPU has no bfloat16"
    if on_cpu and (speed := speed_of_bfloat16()) < MIN_BFLOAT16_SPEED:
        return f"bfloat16 runs at {speed:.2f} times float32's speed here"
    return ""


def _make_fast(trial: _Trial, exact: ExecutionPlan, resize: Resize) -> ExecutionPlan:
    """Half precision, in a format of it that gives numbers."""
    model, on_cpu = trial.model, torch.device(exact.device).type == "cpu"
    layout = [] if on_cpu else use_channels_last_(model)
    for dtype in (torch.bfloat16,) if on_cpu else (torch.float16, torch.bfloat16):
        undo = use_half_precision_(model, dtype)
        measured = trial.measured(
            replace(
                exact,
                mode="fast",
                dtype=str(dtype).removeprefix("torch."),
                memory_format="channels_last",
                resize=resize,
            )
        )
        if measured is not None:
            return measured
        _run(undo)
    _run(layout)
    return replace(exact, reason="half precision gives no finite answers on the probe pictures")


def _tensors(model: nn.Module) -> Iterable[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _numbers(answers: Iterable[dict[str, Any]]) -> Iterable[float]:
    """A sum for each tensor of the answers, which is finite only if all of it is."""
    for output in answers:
        for value in output.values():
            fields = value.get_fields().values() if hasattr(value, "get_fields") else (value,)
            for field in fields:
                tensor = getattr(field, "tensor", field)
                if isinstance(tensor, Tensor) and tensor.is_floating_point():
                    yield float(tensor.double().sum())


def _answers(model: nn.Module, probes: Inputs) -> list[dict[str, Any]]:
    predict: Callable[[Inputs], list[dict[str, Any]]] = getattr(model, "predict", model)
    answers = []
    with torch.inference_mode():
        for probe in probes:  # one by one: they are of several sizes
            answers += predict([probe])
    return answers


def _run(undo: list[Undo]) -> None:
    for step in reversed(undo):
        step()
