"""How close the answers are to Detectron2's: runs the golden cases and writes ``docs/fidelity.md``.

Run by ``make fidelity``. Timings are no part of it.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

import torch
import torchvision
from rich.progress import track

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))
sys.path.insert(0, str(REPOSITORY))

from golden import (  # noqa: E402  # from tests/support
    GOLDEN,
    Differences,
    compare_instances,
    run_case,
)

HEADER = """# Fidelity

What Detectron2 0.6 answers and what detserve answers, on the same images with the same weights, in
float32 on a CPU. Made by `make fidelity` with torch {torch}, torchvision {torchvision} on {machine}.

*Clear* instances of Detectron2 score above its lowest answer by 1e-4; what lies at the cut may fall on either
side. A partner has the same class, IoU >= 0.99, a score within 1e-3 and mask IoU >= 0.99. The weights are
deterministic noise, scaled so that detections are many and diverse: harder to match than a trained model's.

| model | clear instances | matched | worst box (px) | worst score | worst mask IoU |
|---|---|---|---|---|---|
"""

FOOTER = """
The trained embedded model, over HTTP on its 60 validation images, has Detectron2's COCO AP within 0.1 and its
instances: `tests/acceptance/test_shapes_over_http.py`.
"""


def run(name: str) -> Differences:
    """All images of one case."""
    case = run_case(name)
    total = Differences()
    for expected, ours in zip(case.expected["outputs"], case.instances, strict=True):
        found = compare_instances(expected["instances"], ours)
        total.clear += found.clear
        total.matched += found.matched
        total.worst_box = max(total.worst_box, found.worst_box)
        total.worst_score = max(total.worst_score, found.worst_score)
        total.worst_mask_iou = min(total.worst_mask_iou, found.worst_mask_iou)
    return total


def main() -> int:
    """Write the table; 1 if a case has under 99 % of the clear instances."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "fidelity.md")
    out = parser.parse_args().out
    names = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
    rows, failed = [], False
    for name in track(names, "Comparing"):
        d = run(name)
        failed |= d.matched < 0.99 * d.clear
        rows.append(
            f"| {name.replace('__', '/')} | {d.clear} | {d.matched} | {d.worst_box:.4f} "
            f"| {d.worst_score:.1e} | {d.worst_mask_iou:.4f} |"
        )
    header = HEADER.format(
        torch=torch.__version__, torchvision=torchvision.__version__, machine=platform.machine()
    )
    out.write_text(header + "\n".join(rows) + "\n" + FOOTER)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
