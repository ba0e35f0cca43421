"""How close the answers are to Detectron2's: runs all golden cases and writes ``docs/fidelity.md``.

Run by ``make fidelity``. Timings are no part of it.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import sys
from pathlib import Path

import torch
import torchvision
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))
sys.path.insert(0, str(REPOSITORY))

from golden import CASES, Differences, compare_run, run_case  # noqa: E402  # from tests/support

from models.execution import Mode  # noqa: E402  # see the path above

HEADER = """# Fidelity

What Detectron2 0.6 answers and what detserve answers, on the same two images with the same weights, in
float32 on a CPU, in the modes `reference` and `exact` (which is what `detserve serve` runs in). Made by
`make fidelity` with torch {torch}, torchvision {torchvision} on {machine}.

The weights are deterministic noise, scaled so that detections are many and diverse: harder to match than a
trained model's. The answers and the configs are in `tests/data/golden`, the rules in
`tests/support/golden.py`; `make test` runs all but the slowest cases.

*Clear* instances of Detectron2 score above its lowest answer by 1e-4; what lies at the cut may fall on either
side. A case passes when 99 % of them have a partner of the same class with IoU >= 0.99 (rotated: centre,
sides and angle within 0.1), a score within 1e-3, mask IoU >= 0.99 and 90 % of the keypoints within half a
pixel; when every proposal that is written down overlaps one of ours by 0.99; when the best semantic class is
equal on 99.8 % of the pixels; when panoptic segments are the same and equal on 99 % of them; when backbone
features differ by less than 1e-3 of their standard deviation; and when parameters have the same names and
shapes. *TTA* is test-time augmentation.

## Mode reference

{reference_summary}

{reference}

## Mode exact

Norms folded into convolutions, channels-last memory, fused ReLUs, RoIs pooled as weighted sums of pixels.

{exact_summary}

{exact}
"""

TABLE = """\
| model | clear | matched | worst box (px) | worst score | worst mask IoU | keypoints within 0.5 px \
| proposals, worst IoU | semantic pixels | panoptic pixels | worst feature (std) | result |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""
MODES: tuple[Mode, ...] = ("reference", "exact")

FOOTER = """
An expected box is written with four decimals and a score with six, so that differences of 6e-05 and 5e-07 are
rounding alone. Modulated deformable convolution has no golden answer, since Detectron2 runs it on a GPU only:
`tests/models/layers/test_deform_conv.py` holds it against its definition.

A checkpoint that Detectron2 trained, over HTTP on its 60 validation images, has Detectron2's COCO AP within
0.1 and its instances: `tests/acceptance/test_shapes_over_http.py`.
"""


def share(value: float | None) -> str:
    """A share, cut and not rounded so that 1 is all."""
    return "" if value is None else f"{int(value * 1e5) / 1e5:.5f}"


def row(name: str, found: Differences) -> str:
    """One line of the table; cells of what a model does not have stay empty."""
    cells = [name.replace("__", "/")]
    if found.clear:
        cells += [str(found.clear), str(found.matched)]
        cells += [f"{found.worst_box:.1e}", f"{found.worst_score:.1e}"]
    else:
        cells += [""] * 4
    cells.append(share(found.worst_mask_iou) if found.has_masks else "")
    cells.append(f"{found.keypoints_close} of {found.keypoints}" if found.keypoints else "")
    cells += [share(v) for v in (found.worst_proposal_iou, found.worst_sem_seg)]
    cells.append(share(found.worst_panoptic))
    cells.append("" if found.worst_feature is None else f"{found.worst_feature:.1e}")
    cells.append("failed" if found.broken else "pass")
    return "| " + " | ".join(cells) + " |"


def summary(all_found: list[Differences]) -> str:
    """The worst of every column in a sentence or two."""
    total = Differences()
    for found in all_found:
        total.add(found)
    passed = sum(not found.broken for found in all_found)
    return (
        f"**{passed} of {len(all_found)} cases pass; {total.matched} of {total.clear} clear instances "
        f"have a partner.** The worst box is off\nby {total.worst_box:.1e} pixels, the worst score by "
        f"{total.worst_score:.1e}; the worst mask IoU is {share(total.worst_mask_iou)}, and "
        f"{total.keypoints_close} of\n{total.keypoints} keypoints lie within half a pixel."
    )


def main() -> int:
    """Write the table; 1 if a case breaks a rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "fidelity.md")
    parser.add_argument("names", nargs="*", help="cases to run without writing; default: all")
    arguments = parser.parse_args()
    names = arguments.names or CASES
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}")
    console = Console()
    found: dict[Mode, dict[str, Differences]] = {mode: {} for mode in MODES}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("Comparing", total=len(names) * len(MODES))
        for name, mode in itertools.product(names, MODES):
            progress.update(task, description=f"{name} ({mode})")
            run = run_case(name, mode=mode)
            found[mode][name] = compare_run(run)
            if run.plan.mode != mode:
                found[mode][name].broken.append(f"runs as {run.plan.mode}: {run.plan.reason}")
            for reason in found[mode][name].broken:
                progress.console.print(f"{name} ({mode}): {reason}", markup=False)
            progress.advance(task)
    rows = {mode: [row(*item) for item in found[mode].items()] for mode in MODES}
    if arguments.names:
        for mode in MODES:
            print(mode, *rows[mode], sep="\n")
    else:
        header = HEADER.format(
            torch=torch.__version__,
            torchvision=torchvision.__version__,
            machine=platform.machine(),
            **{mode: TABLE + "\n".join(rows[mode]) for mode in MODES},
            **{f"{mode}_summary": summary(list(found[mode].values())) for mode in MODES},
        )
        arguments.out.write_text(header + FOOTER)
        print(f"Wrote {arguments.out}")
    results = [differences for mode in MODES for differences in found[mode].values()]
    failed = [differences for differences in results if differences.broken]
    print(f"{len(results) - len(failed)} of {len(results)} cases pass.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
