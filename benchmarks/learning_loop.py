"""What training, extending and evaluating reach on the shapes, beside what Detectron2's own trainer reached.

    python benchmarks/learning_loop.py scratch --seed 0 --iterations 1500
    python benchmarks/learning_loop.py full --iterations 1500         # five classes, all labelled
    python benchmarks/learning_loop.py extend --old learning/train-4200-0 --iterations 600
    python benchmarks/learning_loop.py reload --old learning/train-4200-0
    python benchmarks/learning_loop.py time            # seconds of an iteration, nothing else running
    python benchmarks/learning_loop.py verdicts        # what of it was asked for and reached

``extend`` adds rings to a trained model from 100 pictures in which old shapes appear and only rings are
labelled; ``reload`` swaps the result into a running service, with a gate that lets old classes lose a
point at most. Every call is ``detserve`` on the command line, training with one thread on a CPU, and adds a
line to benchmarks/results/learning.json. Detectron2's figures are those of the golden answers: batch 8, one
CPU thread, one run of each length.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import torch
import torchvision
from shapes_data import make_shapes

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from live_server import live_server  # noqa: E402  # from tests/support

RESULTS = Path(__file__).parent / "results" / "learning.json"
CONFIG = ROOT / "tests" / "data" / "shapes" / "config.yaml"
DETECTRON2 = {
    1500: {"bbox": 47.3, "segm": 46.6, "seconds": 0.48},
    4200: {"bbox": 69.8, "segm": 65.3, "seconds": 0.48},
}
OLD = ("disc", "rectangle", "triangle", "star")
RECIPE = ("--rate", "backbone=0.1")


KINDS = ("bbox", "segm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps: dict[str, Any] = {
        "scratch": lambda: scratch(arguments, data, "train", "val"),
        "full": lambda: scratch(arguments, data, "train5", "val5"),
        "extend": lambda: extend(arguments, data),
        "reload": lambda: reload(arguments, data),
        "time": lambda: timed(arguments, data),
        "verdicts": verdicts,
    }
    parser.add_argument("what", choices=steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument(
        "--work", type=Path, default=Path("learning"), help="Folder for data and runs."
    )
    parser.add_argument("--old", type=Path, help="Folder of the model that is extended.")
    arguments = parser.parse_args()
    if arguments.what in ("extend", "reload") and arguments.old is None:
        parser.error(
            "--old is the folder of the model that is extended, such as learning/train-4200-0"
        )
    data = arguments.work / "data"
    if arguments.what == "verdicts":
        print(json.dumps(verdicts(), indent=1))
        return
    _make_data(data)
    _add({"what": arguments.what, **_machine(), **steps[arguments.what]()})


def scratch(arguments: argparse.Namespace, data: Path, train: str, val: str) -> dict[str, Any]:
    """Train from random weights and measure."""
    iterations = arguments.iterations
    out = arguments.work / f"{train}-{iterations}-{arguments.seed}"
    changes = [
        *("SOLVER.MAX_ITER", str(iterations)),
        *("SOLVER.STEPS", f"({round(iterations * 0.75)},{round(iterations * 0.92)})"),
        *(("MODEL.ROI_HEADS.NUM_CLASSES", "5") if train == "train5" else ()),
    ]
    labels = out.with_suffix(".txt")
    names = (*OLD, "ring") if train == "train5" else OLD
    labels.write_text("".join(f"{name}\n" for name in names))
    start = time.perf_counter()
    _detserve(
        *("train", "--config", CONFIG, "--weights", "", "--labels", labels),
        *("--train", data / f"{train}.json", "--val", data / f"{val}.json", "--out", out),
        *(
            "--seed",
            arguments.seed,
            "--device",
            "cpu",
            "--threads",
            1,
            "--eval-period",
            iterations,
            *changes,
        ),
    )
    return {
        "iterations": iterations,
        "seed": arguments.seed,
        "minutes": round((time.perf_counter() - start) / 60, 1),
        **_figures(out),
        "detectron2": DETECTRON2.get(iterations) if train == "train" else None,
    }


def extend(arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Add rings to a model from pictures in which only they are labelled."""
    old, out = arguments.old, _rings(arguments)
    extended = arguments.work / f"extended-{old.name}"
    if not extended.exists():
        _detserve(
            "extend", "--weights", old / "model_final.pth", "--add", "ring", "--out", extended
        )
    _detserve(
        *("train", "--config", extended / "config.yaml", "--train", data / "rings.json"),
        *("--val", data / "val5.json", "--out", out, "--teacher", old, "--device", "cpu"),
        *("--iterations", arguments.iterations, "--eval-period", arguments.iterations, *RECIPE),
        *("--seed", arguments.seed, "--threads", 1, "SOLVER.BASE_LR", 0.005),
    )
    return {
        "old": old.name,
        "iterations": arguments.iterations,
        "seed": arguments.seed,
        **_figures(out),
    }


def reload(arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Swap the extended model into a running service; old classes may lose a point at most."""
    root = arguments.work / f"repository-{time.time_ns()}"
    shutil.copytree(data / "val5", root / "_sets" / "val5")
    shutil.copy(data / "val5.json", root / "_sets")
    for folder in (arguments.old, _rings(arguments)):
        files = ("--config", folder / "config.yaml", "--weights", folder / "model_final.pth")
        _detserve("models", "add", "shapes", "--root", root, *files)
    _detserve("models", "promote", "shapes", "1", "--root", root)
    with live_server("--repository", root, "--device", "cpu", cwd=root) as server:
        before = httpx.get(f"{server.url}/models").json()
        gate = {"dataset": "_sets/val5.json", "max_drop": 1}
        body = {"model": "shapes", "version": "2", "gate": gate}
        answer = httpx.post(f"{server.url}/reload", json=body, timeout=600)
        after = httpx.get(f"{server.url}/models").json()
    table = (
        answer.json()["gate"] if answer.is_success else answer.json()["error"]["details"]["gate"]
    )
    return {
        "classes_before": [entry["name"] for entry in before["models"][0]["classes"]],
        "classes_after": [entry["name"] for entry in after["models"][0]["classes"]],
        "gate": {key: table[key] for key in ("passed", "iou_type", "max_drop", "ap", "current_ap")},
    }


def verdicts() -> dict[str, Any]:
    """What was asked for, and whether it was reached, from all lines of the results."""
    lines = json.loads(RESULTS.read_text())
    found: dict[str, Any] = {}
    for iterations, expected in DETECTRON2.items():
        runs = [x for x in lines if x["what"] == "scratch" and x["iterations"] == iterations]
        for kind in KINDS if runs else ():
            values = [run["after"][f"{kind}/AP"] for run in runs]
            mean = round(statistics.fmean(values), 2)
            found[f"{iterations} iterations, {kind} AP"] = {
                "runs": values,
                "mean": mean,
                "detectron2": expected[kind],
                "within_2_or_above": mean >= expected[kind] - 2,
            }
    whole = [x for x in lines if x["what"] == "full"]
    for run in (x for x in lines if x["what"] == "extend"):
        for kind in KINDS:
            before, after = (
                statistics.fmean(run[when][f"{kind}/AP-{name}"] for name in OLD)
                for when in ("before", "after")
            )
            ring = run["after"][f"{kind}/AP-ring"]
            name = f"rings, seed {run['seed']}, {kind}"
            found[name] = {
                "old_classes_before": round(before, 2),
                "old_classes_after": round(after, 2),
                "falls_by_1_at_most": before - after <= 1,
                "ring": ring,
            }
            for reference in whole:
                best = reference["after"][f"{kind}/AP-ring"]
                found[name]["ring_of_fully_labelled_training"] = best
                found[name]["60_percent_of_it"] = ring >= 0.6 * best
    return found


def timed(arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Seconds of an iteration."""
    out = arguments.work / f"time-{time.time_ns()}"
    _detserve(
        *("train", "--config", CONFIG, "--weights", "", "--train", data / "train.json"),
        *(
            "--out",
            out,
            "--device",
            "cpu",
            "--threads",
            1,
            "SOLVER.MAX_ITER",
            200,
            "SOLVER.STEPS",
            "(150,)",
        ),
    )
    seconds = [line["seconds"] for line in _log(out) if "seconds" in line][1:]
    return {
        "seconds_median": round(statistics.median(seconds), 4),
        "seconds_least": round(min(seconds), 4),
        "seconds_most": round(max(seconds), 4),
        "detectron2_seconds": DETECTRON2[1500]["seconds"],
    }


def _figures(out: Path) -> dict[str, Any]:
    lines = _log(out)
    last = [line for line in lines if "bbox/AP" in line]
    seconds = [line["seconds"] for line in lines if "seconds" in line]

    def told(line: dict[str, Any]) -> dict[str, float]:
        return {
            name: round(value, 2)
            for name, value in line.items()
            if name in ("bbox/AP", "segm/AP") or "AP-" in name
        }

    return {
        "before": told(last[0]) if last[0]["iteration"] == 0 else None,
        "after": told(last[-1]),
        "seconds_per_iteration": round(statistics.median(seconds), 3),
    }


def _rings(arguments: argparse.Namespace) -> Path:
    folder: Path = arguments.work / f"rings-{arguments.old.name}-{arguments.seed}"
    return folder


def _log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def _make_data(folder: Path) -> None:
    wanted: dict[str, dict[str, Any]] = {
        "train": {"count": 1200, "seed": 1},
        "val": {"count": 60, "seed": 2},
        "rings": {"count": 100, "seed": 11, "kinds": 5, "labelled": ["ring"]},
        "val5": {"count": 60, "seed": 12, "kinds": 5},
        "train5": {"count": 1200, "seed": 13, "kinds": 5},
    }
    for name, keywords in wanted.items():
        if not (folder / f"{name}.json").exists():
            make_shapes(root=folder, name=name, **keywords)


def _detserve(*arguments: object) -> None:
    command = [sys.executable, "-m", "service.cli", *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def _machine() -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU used",
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "load_average": round(os.getloadavg()[0], 1),
    }


def _add(line: dict[str, Any]) -> None:
    lines = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    RESULTS.write_text(json.dumps([*lines, line], indent=1) + "\n")
    print(json.dumps(line, indent=1))


if __name__ == "__main__":
    main()
