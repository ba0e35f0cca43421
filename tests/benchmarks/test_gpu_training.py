"""The sections of ``benchmarks/gpu.py`` on training, with next to nothing to do on a CPU."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from golden_training import TrainingRun


@pytest.fixture(scope="module")
def gpu() -> Iterator[ModuleType]:
    """The script, which looks for its parts in folders of its own."""
    before = list(sys.path)
    yield importlib.import_module("gpu")
    sys.path[:] = before


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The script is a process of its own otherwise, and has its switches for itself."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, products.allow_tf32, torch.get_num_threads()
    yield
    cudnn.allow_tf32, products.allow_tf32 = before[:2]
    torch.set_num_threads(before[2])


@pytest.fixture
def setting(gpu: ModuleType) -> Any:
    return gpu.Setting(
        device=torch.device("cpu"),
        size=(64, 80),
        batches=(1,),
        models=("mask_rcnn",),
        cases=(),
        seconds=0.0,
        deadline=time.monotonic() + 120,
        jpegs=1,
        threads=1,
        quick=True,
    )


def step(loss: float, norm: float) -> TrainingRun:
    expected = {"losses": {"loss_cls": 2.0}, "gradient_norms": {"conv.weight": 10.0, "bias": 0.0}}
    return TrainingRun(expected, {"loss_cls": loss}, {"conv.weight": norm, "bias": 1e-6}, 0)


def test_training_is_a_call_of_its_own(gpu: ModuleType) -> None:
    assert gpu.chosen_sections(None) == (list(gpu.SECTIONS), "gpu")
    assert gpu.chosen_sections(["training"]) == (list(gpu.TRAINING), "gpu-training")
    assert gpu.chosen_sections(["golden", "training_resume"])[1] == "gpu"


def test_a_golden_step_that_agrees_is_told_with_its_worst_norm(gpu: ModuleType) -> None:
    found = gpu.training_checks.differences(step(2.001, 10.015))
    assert found["broken"] == []
    assert found["worst_loss"] == pytest.approx(5e-4)
    assert (found["worst_gradient_norm"], found["of"]) == (pytest.approx(1.5e-3), "conv.weight")
    assert found["over_a_thousandth"] == 1


@pytest.mark.parametrize(
    ("run", "broken"),
    [
        (step(2.01, 10.0), ["loss_cls"]),
        (step(2.0, 10.1), ["conv.weight"]),
        (step(float("nan"), 10.0), ["loss_cls"]),
    ],
)
def test_a_golden_step_that_does_not_agree_fails(
    gpu: ModuleType, setting: Any, monkeypatch: pytest.MonkeyPatch, run: TrainingRun, broken: Any
) -> None:
    monkeypatch.setattr(gpu.training_checks, "run_training_case", lambda *_: run)
    found = gpu.run_section(gpu.training_checks.golden, setting)
    assert "golden training steps broken" in found["failed"]
    (case,) = (one for one in found.values() if isinstance(one, dict))
    assert case["broken"] == broken


def test_an_iteration_is_timed_in_every_way(gpu: ModuleType, setting: Any) -> None:
    found = gpu.training_cost.speed(setting)
    rows = {name: row for name, row in found.items() if isinstance(row, dict)}
    assert list(rows) == [f"{way} batch 2" for way in gpu.training_cost.WAYS]
    for row in rows.values():
        assert 0 < row["least"] <= row["seconds"] <= row["most"]
        assert 0 <= row["share_of_waiting_for_data"] < 1
        assert row["iterations"] == 3


def test_what_does_not_fit_is_told_and_the_rest_goes_on(
    gpu: ModuleType, setting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = gpu.training_cost.train

    def too_large(cfg: Any, data: Any, out: Path, setting: Any, **keywords: Any) -> Any:
        if not cfg.SOLVER.AMP.ENABLED:
            out.mkdir()
            raise torch.OutOfMemoryError
        return train(cfg, data, out, setting, **keywords)

    monkeypatch.setattr(gpu.training_cost, "train", too_large)
    found = gpu.training_cost.speed(setting)
    assert found["float32 batch 2"] == {"not run": "the device has too little memory"}
    assert "seconds" in found["AMP batch 2"]


def test_half_precision_is_held_against_float32(gpu: ModuleType, setting: Any) -> None:
    found = gpu.training_checks.half_precision(setting)
    # On a CPU both are float32.
    assert found["float32"]["last_loss"] == found["AMP"]["last_loss"]
    assert found["relative_difference_of_loss"] == 0
    assert {"bbox", "segm", "first_loss"} <= set(found["AMP"])


def test_a_resumed_training_is_held_against_the_whole(gpu: ModuleType, setting: Any) -> None:
    found = gpu.training_checks.resume(setting)
    for name in ("float32", "AMP"):
        assert found[name] == {
            "first_iteration": 3,
            "iterations": 2,
            "first_loss_off": 0.0,
            "worst_loss_off": 0.0,
        }


def test_memory_is_looked_at_over_many_sizes(gpu: ModuleType, setting: Any) -> None:
    found = gpu.training_cost.memory(setting)
    assert found["iterations"] == 6
    first, last = found["host_mib"]
    assert min(first, last) > 0


def test_time_that_is_used_up_ends_a_section_with_a_sentence(gpu: ModuleType, setting: Any) -> None:
    late = gpu.Setting(**{**vars(setting), "deadline": time.monotonic() - 1})
    assert gpu.training_cost.speed(late)["incomplete"] == "the run's time is used up; see --minutes"
    assert "OutOfTimeError" in gpu.run_section(gpu.training_checks.resume, late)["failed"]


def test_the_script_writes_what_it_finds(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = ["training_memory", "training_synchronisations"]
    options = ["--device", "cpu", "--quick", "--threads", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *options, "--sections", *sections])
    assert gpu.main() == 0
    found = json.loads((tmp_path / "gpu-training-cpu.json").read_text())
    assert {"machine", "torch", "date", "training_memory"} <= set(found)
    assert "training_synchronisations" not in found  # it needs a GPU


def test_a_gpu_that_is_not_there_is_told(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cuda", "--sections", "training"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "Device 'cuda' is asked for, but PyTorch sees 0 usable GPU(s)" in capsys.readouterr().err
