"""What training, extending and evaluating reach on the shapes, beside what Detectron2's own trainer reached.

    python benchmarks/learning_loop.py scratch --seed 0 --iterations 1500
    python benchmarks/learning_loop.py full            # five classes, all labelled, from scratch
    python benchmarks/learning_loop.py extend          # a fifth class of 100 pictures, old ones unlabelled
    python benchmarks/learning_loop.py time            # seconds of an iteration, nothing else running

Every call is ``detserve`` on the command line, with one thread, and adds a line to
benchmarks/results/learning.json. Detectron2's figures are those of the golden answers: batch 8, one CPU
thread, one run of each length.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torchvision
from shapes_data import make_shapes

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "learning.json"
CONFIG = ROOT / "models" / "pretrained" / "shapes" / "config.yaml"
DETECTRON2 = {
    1500: {"bbox": 47.3, "segm": 46.6, "seconds": 0.48},
    4200: {"bbox": 69.8, "segm": 65.3, "seconds": 0.48},
}
OLD = ("disc", "rectangle", "triangle", "star")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("scratch", "full", "extend", "time"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--work", type=Path, default=Path("learning"), help="Folder for data and runs.")
    parser.add_argument("--old", type=Path, default=CONFIG.parent, help="Model that is extended.")
    arguments = parser.parse_args()
    data = arguments.work / "data"
    _make_data(data)
    measured = {
        "scratch": lambda: scratch(arguments, data, "train", "val"),
        "full": lambda: scratch(arguments, data, "train5", "val5"),
        "extend": lambda: extend(arguments, data),
        "time": lambda: timed(arguments, data),
    }[arguments.what]()
    _add({"what": arguments.what, **_machine(), **measured})


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
        *("--seed", arguments.seed, "--threads", 1, "--eval-period", iterations, *changes),
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
    old = arguments.old
    extended, out = arguments.work / "extended", arguments.work / f"rings-{arguments.seed}"
    if not extended.exists():
        _detserve("extend", "--weights", old / "model_final.pth", "--add", "ring", "--out", extended)
    _detserve(
        *("train", "--config", extended / "config.yaml", "--train", data / "rings.json"),
        *("--val", data / "val5.json", "--out", out, "--teacher", old, "--rate", "backbone=0.1"),
        *("--iterations", arguments.iterations, "--eval-period", arguments.iterations),
        *("--seed", arguments.seed, "--threads", 1),
    )
    return {"iterations": arguments.iterations, "seed": arguments.seed, **_figures(out)}


def timed(arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Seconds of an iteration."""
    out = arguments.work / f"time-{time.time_ns()}"
    _detserve(
        *("train", "--config", CONFIG, "--weights", "", "--train", data / "train.json"),
        *("--out", out, "--threads", 1, "SOLVER.MAX_ITER", 200, "SOLVER.STEPS", "(150,)"),
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
