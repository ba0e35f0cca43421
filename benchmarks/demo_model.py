"""Train the embedded demo model anew and replace it if the new one is better: ``make demo-model``.

It learns 3,600 pictures of shapes from random weights, for 6,000 iterations with one thread: about three
quarters of an hour. A run that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from shapes_data import make_shapes

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / "models" / "pretrained" / "shapes"
BASE = ROOT / "tests" / "data" / "shapes" / "config.yaml"
FILES = ("config.yaml", "model_final.pth", "labels.txt")
KINDS = ("bbox", "segm")

RECIPE = (
    *("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"),
    *("SOLVER.WARMUP_ITERS", "200"),
    *("INPUT.MIN_SIZE_TRAIN", "(128,144,160,176,192)"),
)


def main() -> int:
    """Make the data, train, measure both, replace; 0 if the new model is better, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo-model")
    parser.add_argument("--pictures", type=int, default=3600)
    parser.add_argument("--iterations", type=int, default=6000)
    arguments = parser.parse_args()
    work: Path = arguments.work
    for name, count, seed in (("train", arguments.pictures, 1), ("val", 60, 2)):
        if not (work / f"{name}.json").exists():
            make_shapes(count, work, seed, name)
    run = work / "run"
    if (run / "last.pth").exists():
        _detserve("train", "--resume", run, "--device", "cpu", "--threads", 1)
    else:
        _detserve(
            *("train", "--config", BASE, "--weights", "", "--device", "cpu"),
            *("--train", work / "train.json", "--val", work / "val.json", "--out", run),
            *("--ema", 0.999, "--eval-period", 1000, "--threads", 1),
            *("SOLVER.MAX_ITER", arguments.iterations, *RECIPE),
        )
    if filecmp.cmp(run / FILES[1], EMBEDDED / FILES[1], shallow=False):
        print(f"The embedded model is of this run already; remove {work} to train anew.")
        return 0
    before, after = _measured(EMBEDDED, work, "old"), _measured(run, work, "new")
    for kind in KINDS:
        print(
            f"{kind} AP: {before[kind]:.1f} of the embedded model, {after[kind]:.1f} of the new one"
        )
    if not all(after[kind] > before[kind] for kind in KINDS):
        print("The new model is not better; the embedded one stays.")
        return 1
    for name in FILES:
        shutil.copyfile(run / name, EMBEDDED / name)
    print(f"{EMBEDDED.relative_to(ROOT)} is the new model now.")
    return 0


def _measured(model: Path, work: Path, name: str) -> dict[str, float]:
    """Box and mask AP on the validation pictures, by ``detserve evaluate``."""
    out = work / f"evaluation-{name}"
    shutil.rmtree(out, ignore_errors=True)
    _detserve(
        *("evaluate", "--config", model / "config.yaml", "--weights", model / "model_final.pth"),
        *("--data", work / "val.json", "--out", out, "--device", "cpu", "--mode", "reference"),
    )
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    (plain,) = metrics["instances"]
    figures = plain["result"]["figures"]
    return {kind: figures[kind]["AP"] for kind in KINDS}


def _detserve(*arguments: object) -> None:
    command = [sys.executable, "-m", "service.cli", *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
