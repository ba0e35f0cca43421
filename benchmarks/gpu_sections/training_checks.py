"""Whether training on a device is right: Detectron2's losses, half precision, a training that goes on."""

from __future__ import annotations

import dataclasses
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

import torch
from coco_ap import DATA
from golden_training import TRAINING_CASES, TrainingRun, run_training_case
from rich.progress import track

from gpu_sections.checks import CheckFailedError
from gpu_sections.setting import Setting
from gpu_sections.training_runs import amounts_of, shapes, shapes_data, train, work_folder
from models.device import use_exact_float32
from models.evaluation import CocoDataset

LOSS_TOLERANCE = 1e-3
GRADIENT_TOLERANCE = 2e-3
"""A ReLU that float32 takes for closed costs the first layer of the box head a thousandth on a CPU too."""
TINY = 1e-5
"""Gradients that are zero on paper are as large."""
AMP_TOLERANCE = 0.1
"""Of the mean loss at the end: half precision must learn what float32 does."""
FIRST_LOSS_TOLERANCE = 1e-3
"""Of the first iteration behind a resume: sums of atomic additions differ a little each time."""


def golden(setting: Setting) -> dict[str, Any]:
    """Detectron2's losses and gradient norms in float32 without TF32: the worst relative differences."""
    use_exact_float32()
    cases = TRAINING_CASES
    if setting.quick:
        cases = [name for name in TRAINING_CASES if "rpn" in name]
    results: dict[str, Any] = {}
    for name in track(cases, "golden training"):
        setting.check_time()
        results[name] = differences(run_training_case(name, torch.float32, str(setting.device)))
    broken = [name for name, found in results.items() if found["broken"]]
    if broken:
        raise CheckFailedError(f"golden training steps broken: {', '.join(broken)}", results)
    return results


def differences(run: TrainingRun) -> dict[str, Any]:
    """How far a step is from Detectron2's, and what is farther than it may be."""
    losses = _relative(run.losses, run.expected["losses"])
    norms = _relative(run.gradient_norms, run.expected["gradient_norms"])
    broken = [name for name, value in losses.items() if not value <= LOSS_TOLERANCE]
    broken += [name for name, value in norms.items() if not value <= GRADIENT_TOLERANCE]
    worst = max(norms, key=norms.__getitem__)
    return {
        "worst_loss": round(max(losses.values()), 9),
        "worst_gradient_norm": round(norms[worst], 9),
        "of": worst,
        "gradient_norms": len(norms),
        "over_a_thousandth": sum(value > 1e-3 for value in norms.values()),
        "broken": broken,
    }


def _relative(ours: dict[str, float], expected: dict[str, float]) -> dict[str, float]:
    """Of each number; those that are next to nothing are compared as if they were TINY / 1e-3."""
    return {
        name: abs(ours.get(name, math.nan) - value) / max(abs(value), TINY / LOSS_TOLERANCE)
        for name, value in expected.items()
    }


def half_precision(setting: Setting) -> dict[str, Any]:
    """A short training of the shapes with AMP and without: losses and AP at its end, the same seed."""
    amounts = amounts_of(setting)
    end = amounts.shapes_iterations
    results: dict[str, Any] = {"iterations": end, "pictures": amounts.shapes}
    with work_folder() as folder:
        data = shapes_data(setting, folder)
        val = CocoDataset.load(DATA / "val.json", DATA / "val")
        if setting.quick:
            val = _first_pictures(val, 2)
        for name, half in (("float32", False), ("AMP", True)):
            cfg = shapes(
                setting,
                {
                    "SOLVER.MAX_ITER": end,
                    "SOLVER.STEPS": (round(0.75 * end), round(0.92 * end)),
                    "SOLVER.AMP.ENABLED": half,
                    "FLOAT32_PRECISION": "highest",
                },
            )
            notes, result = train(
                cfg,
                data,
                folder / name,
                setting,
                val=val,
                log_period=max(1, end // 30),
                workers=amounts.workers,
            )
            losses = [line["total_loss"] for line in notes.lines if "total_loss" in line]
            assert result.after is not None, "it is measured at its end"
            results[name] = {
                "first_loss": losses[0],
                "last_loss": statistics.fmean(losses[-max(1, len(losses) // 6) :]),
                **{kind: result.after.figures.get(f"{kind}/AP") for kind in ("bbox", "segm")},
                "seconds": statistics.median(
                    line["seconds"] for line in notes.lines if "seconds" in line
                ),
            }
    plain, half_last = results["float32"]["last_loss"], results["AMP"]["last_loss"]
    results["relative_difference_of_loss"] = round(half_last / plain - 1, 4)
    if not abs(half_last - plain) <= AMP_TOLERANCE * plain:
        raise CheckFailedError("half precision learns something else than float32", results)
    return results


def _first_pictures(dataset: CocoDataset, number: int) -> CocoDataset:
    images = dataset.images[:number]
    ids = {image.id for image in images}
    annotations = tuple(a for a in dataset.annotations if a["image_id"] in ids)
    return dataclasses.replace(dataset, images=images, annotations=annotations)


def resume(setting: Setting) -> dict[str, Any]:
    """A training that goes on from a copy of its folder, beside itself: how far the losses part."""
    amounts = amounts_of(setting)
    results: dict[str, Any] = {"saved_after": amounts.resume_at}
    apart = []
    for name, half in (("float32", False), ("AMP", True)):
        with work_folder() as folder:
            data = shapes_data(setting, folder)
            cfg = shapes(
                setting,
                {
                    "SOLVER.MAX_ITER": amounts.resume_end,
                    "SOLVER.STEPS": (),
                    "SOLVER.AMP.ENABLED": half,
                },
            )
            whole, parts = folder / "whole", folder / "parts"
            options = {
                "log_period": 1,
                "workers": amounts.workers,
                "checkpoint_period": amounts.resume_at,
            }

            def copied(iteration: int, whole: Path = whole, parts: Path = parts) -> None:
                if iteration == amounts.resume_at + 1:
                    shutil.copytree(whole, parts)

            first, _ = train(cfg, data, whole, setting, act=copied, **options)
            second, _ = train(cfg, data, parts, setting, resume=True, **options)
        expected = {line["iteration"]: line["total_loss"] for line in first.lines}
        off = [abs(line["total_loss"] / expected[line["iteration"]] - 1) for line in second.lines]
        results[name] = {
            "first_iteration": second.lines[0]["iteration"],
            "iterations": len(off),
            "first_loss_off": off[0],
            "worst_loss_off": max(off),
        }
        goes_on = results[name]["first_iteration"] == amounts.resume_at + 1
        if not (goes_on and off[0] <= FIRST_LOSS_TOLERANCE):
            apart.append(name)
    if apart:
        raise CheckFailedError(f"a resumed training goes on otherwise: {', '.join(apart)}", results)
    return results
