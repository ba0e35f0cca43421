"""How close a training step is to Detectron2's: all golden steps; writes ``docs/fidelity-training.md``.

Run by ``make fidelity``; in float64, as the expected norms were computed, some ten minutes.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import torch
import torchvision

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))
sys.path.insert(0, str(REPOSITORY))

from golden_training import TRAINING_CASES, TrainingRun, run_training_case  # noqa: E402  # see the path

TARGET = 1e-3
TINY = 1e-5  # what is zero on paper is compared absolutely

HEADER = """# Fidelity of training

One forward and backward pass in training mode on two pictures with the same weights and ground truth: the
losses of Detectron2 0.6 and of detserve, and the norms of gradients. Made by `make fidelity` in float64 with
torch {torch}, torchvision {torchvision} on {machine}; `make test` runs all but the slowest in float32. So
many samples are taken that nothing depends on chance. What is expected lies in `tests/data/golden/training`.

| model | losses | worst loss | gradients | worst norm | frozen | result |
|---|---|---|---|---|---|---|
"""
FOOTER = """
*Worst* is the largest relative difference; a case passes below {target:g} (values below {tiny:g}, zero on
paper, are compared absolutely) with as many frozen parameters as Detectron2 has.
"""


def main() -> int:
    """Run all cases; 0 if all pass."""
    rows, passed = [], True
    for name in TRAINING_CASES:
        run = run_training_case(name)
        row, is_equal = _row(name, run)
        rows.append(row)
        passed &= is_equal
        print(row, flush=True)
    header = HEADER.format(
        torch=torch.__version__,
        torchvision=torchvision.__version__,
        machine=f"{platform.machine()}, {platform.system()}",
    )
    text = header + "\n".join(rows) + "\n" + FOOTER.format(target=TARGET, tiny=TINY)
    (REPOSITORY / "docs" / "fidelity-training.md").write_text(text)
    return 0 if passed else 1


def _row(name: str, run: TrainingRun) -> tuple[str, bool]:
    losses = run.expected["losses"] | {"total": run.expected["total"]}
    norms = run.expected["gradient_norms"]
    found = run.losses | {"total": sum(run.losses.values())}
    worst_loss = max(_difference(found[key], value) for key, value in losses.items())
    worst_norm = max(_difference(run.gradient_norms[key], value) for key, value in norms.items())
    is_equal = (
        max(worst_loss, worst_norm) <= TARGET
        and run.losses.keys() == run.expected["losses"].keys()
        and run.frozen_parameter_count == run.expected["frozen_parameter_count"]
    )
    cells = [
        name.replace("__", "/"),
        str(len(run.losses)),
        f"{worst_loss:.1e}",
        str(len(norms)),
        f"{worst_norm:.1e}",
        str(run.frozen_parameter_count),
        "pass" if is_equal else "FAIL",
    ]
    return f"| {' | '.join(cells)} |", is_equal


def _difference(found: float, expected: float) -> float:
    """Relative; 0 where both are tiny, as the gradient of something that does not matter."""
    if abs(expected) < TINY and abs(found - expected) < TINY:
        return 0.0
    return abs(found - expected) / max(abs(expected), TINY)


if __name__ == "__main__":
    sys.exit(main())
