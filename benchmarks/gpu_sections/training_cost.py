"""What training costs on a device: seconds, memory, and where the host waits."""

from __future__ import annotations

import copy
import shutil
import statistics
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from gpu_sections.checks import CheckFailedError, noting
from gpu_sections.setting import TIMED, OutOfTimeError, Setting, seeded
from gpu_sections.training_runs import (
    Notes,
    amounts_of,
    mask_rcnn,
    mask_rcnn_weights,
    random_data,
    train,
    work_folder,
)
from models.training import TrainingOptions
from models.training.data.mapper import TrainingMapper
from models.training.step import Step

GROWTH_MIB = 16
UNTIL_STEADY = 20
"""Iterations until momentum and the caches of the allocator are there."""

# The precision of float32, half precision, channels last, which the trainer does not choose by itself.
WAYS = {
    "float32": ("highest", False, False),
    "TF32": ("high", False, False),
    "AMP": ("high", True, False),
    "AMP channels last": ("high", True, True),
}


def speed(setting: Setting) -> dict[str, Any]:
    """Mask R-CNN R50-FPN: seconds of an iteration, the share of waiting for data, and memory."""
    amounts = amounts_of(setting)
    iterations = (amounts.lines + 2) * amounts.line
    results: dict[str, Any] = {
        "model": TIMED["mask_rcnn"] if setting.on_gpu and not setting.quick else "tiny",
        "shorter_side": amounts.min_size,
        "workers": amounts.workers,
    }
    if not setting.on_gpu:
        results["note"] = "on a CPU TF32 and AMP are float32"
    with work_folder() as folder:
        data = random_data(setting, folder)
        weights = mask_rcnn_weights(setting, folder)
        for batch in amounts.batches:
            for name, (precision, half, channels_last) in WAYS.items():
                cfg = mask_rcnn(
                    setting,
                    {
                        "SOLVER.IMS_PER_BATCH": batch,
                        "SOLVER.MAX_ITER": iterations,
                        "SOLVER.AMP.ENABLED": half,
                        "FLOAT32_PRECISION": precision,
                    },
                )
                out = folder / "run"
                try:
                    notes, _ = train(
                        cfg,
                        data,
                        out,
                        setting,
                        weights=weights,
                        channels_last=channels_last,
                        log_period=amounts.line,
                        workers=amounts.workers,
                    )
                except OutOfTimeError as error:
                    results["incomplete"] = str(error)
                    return results
                except torch.OutOfMemoryError:
                    results[f"{name} batch {batch}"] = {
                        "not run": "the device has too little memory"
                    }
                else:
                    results[f"{name} batch {batch}"] = _speed_of(notes, batch, setting)
                shutil.rmtree(out)
    return results


def _speed_of(notes: Notes, batch: int, setting: Setting) -> dict[str, Any]:
    lines = notes.lines[2:]
    seconds = [line["seconds"] for line in lines]
    waited = sum(line["data_seconds"] for line in lines)
    median = statistics.median(seconds)
    found = {
        "seconds": round(median, 4),
        "least": round(min(seconds), 4),
        "most": round(max(seconds), 4),
        "images_per_s": round(batch / median, 2),
        "share_of_waiting_for_data": round(waited / sum(seconds), 4),
        "iterations": round(lines[-1]["iteration"] - notes.lines[1]["iteration"]),
    }
    if setting.on_gpu:
        found["peak_mib"] = round(torch.cuda.max_memory_allocated(setting.device) / 2**20)
        found["peak_reserved_mib"] = round(torch.cuda.max_memory_reserved(setting.device) / 2**20)
    return found


def memory(setting: Setting) -> dict[str, Any]:
    """Whether memory grows over iterations with pictures of many sizes."""
    amounts = amounts_of(setting)
    steady = min(UNTIL_STEADY, amounts.memory_iterations // 2)
    with work_folder() as folder:
        data = random_data(setting, folder, (240, 360, 480, 640, 860))
        largest = 2 * amounts.min_size // 3
        cfg = mask_rcnn(
            setting,
            {
                "INPUT.MIN_SIZE_TRAIN": (largest // 2, largest),
                "INPUT.MIN_SIZE_TRAIN_SAMPLING": "range",
                "SOLVER.IMS_PER_BATCH": 2,
                "SOLVER.MAX_ITER": amounts.memory_iterations,
            },
        )
        weights = mask_rcnn_weights(setting, folder)
        host: list[float] = []
        notes, _ = train(
            cfg,
            data,
            folder / "run",
            setting,
            weights=weights,
            workers=amounts.workers,
            act=lambda _: host.append(_resident_mib()),
        )
    found: dict[str, Any] = {
        "iterations": amounts.memory_iterations,
        "host_mib": _first_and_last(host, steady),
    }
    if not setting.on_gpu:
        return found
    found["allocated_mib"] = _first_and_last(notes.allocated, steady)
    found["reserved_mib"] = _first_and_last(notes.reserved, steady)
    found["peak_mib"] = round(torch.cuda.max_memory_allocated(setting.device) / 2**20)
    first, last = found["allocated_mib"]
    if last - first > GROWTH_MIB:
        raise CheckFailedError("memory grows from iteration to iteration", found)
    return found


def _first_and_last(values: list[float], steady: int) -> tuple[float, float]:
    """Medians of as many values behind the first ones as at the end."""
    many = max(1, min(steady, (len(values) - steady) // 2))
    first, last = values[steady : steady + many], values[-many:]
    return round(statistics.median(first), 1), round(statistics.median(last), 1)


def _resident_mib() -> float:
    """Of this process; 0 where nobody says."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * 4096 / 2**20


def synchronisations(setting: Setting) -> dict[str, Any]:
    """How often, and where, an iteration makes the host wait for the GPU."""
    amounts = amounts_of(setting)
    results: dict[str, Any] = {}
    with work_folder() as folder:
        data = random_data(setting, folder)
        for batch in (2, amounts.batches[-1]):
            setting.check_time()
            cfg = mask_rcnn(setting, {"SOLVER.AMP.ENABLED": True})
            model: Any = copy.deepcopy(seeded(TIMED["mask_rcnn"])[0]).to(setting.device)
            step = Step(model, cfg, TrainingOptions())
            step.train_mode()
            mapper = TrainingMapper(cfg, data)
            inputs = [mapper(image, number) for number, image in enumerate(data.images[:batch])]
            places: Counter[str] = Counter()
            for iteration in range(1, 4):  # the first ones make what stays
                setting.finish()
                places.clear()
                with warnings.catch_warnings():
                    warnings.simplefilter("always")
                    warnings.showwarning = noting(places)
                    torch.cuda.set_sync_debug_mode("warn")
                    try:
                        step(model, inputs, iteration)
                    finally:
                        torch.cuda.set_sync_debug_mode("default")
            results[f"batch {batch}"] = {"total": places.total(), "places": dict(places)}
    return results
