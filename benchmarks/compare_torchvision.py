"""Compares our Mask R-CNN R50-FPN with torchvision's eager one: same picture, in turns.

    python benchmarks/compare_torchvision.py --threads 2 --turns 7

A picture of 640x480 is run at 800x1067 on the CPU. Both models have weights of one kind (see
``tests/support/seeded_weights.py``), find 100 objects in it, and give masks as large as the picture:
what is timed is from the picture in memory to the masks, each side's own resize and pasting included.

A picture "with 5 objects" is the same one at the score threshold that 5 of the 100 objects pass: ours
knows it before its mask head. torchvision's has no such option, and is timed as it is.

Each side has a process of its own, which loads it from files as a service does, and they run one at a
time. Memory is the most that its process has had; what the imports alone take stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks" / "servers")]

import numpy as np  # noqa: E402  # see the path above
import torch  # noqa: E402  # likewise
from numpy.typing import NDArray  # noqa: E402  # likewise
from reporting import machine, versions, write_result  # noqa: E402  # likewise
from rich.console import Console  # noqa: E402  # likewise
from rich.progress import track  # noqa: E402  # likewise
from rich.table import Table  # noqa: E402  # likewise

from service.bench.process_usage import process_usage  # noqa: E402  # likewise

MODES = ("reference", "exact", "fast")
PEER = "torchvision"
FEW = 5
WIDTH, HEIGHT = 640, 480

Side = Callable[[], int]
"""Answers the picture once; gives the number of objects."""


def picture() -> NDArray[np.uint8]:
    """(480, 640, 3) uint8 RGB: the golden answers' scene, enlarged."""
    from PIL import Image

    scene = Image.open(REPOSITORY / "tests" / "data" / "golden" / "scene_a.png").convert("RGB")
    return np.array(scene.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))


def make_side(name: str, image: NDArray[np.uint8], folder: Path) -> Side:
    """Load one side from ``folder``: ``torchvision``, a mode, or a mode followed by ``-few``."""
    if name == PEER:
        return _torchvision(image, folder)
    mode, _, few = name.partition("-")
    return _ours(image, folder, mode, few=bool(few))


def write_weights(folder: Path) -> None:
    """Write the files that the sides are loaded from."""
    from seeded_mask_rcnn import write_model
    from torchvision_mask_rcnn import seeded_model

    write_model(folder)
    torch.save(seeded_model().state_dict(), folder / "torchvision.pth")


def _torchvision(image: NDArray[np.uint8], folder: Path) -> Side:
    from torchvision.transforms.functional import to_tensor
    from torchvision_mask_rcnn import frozen_model

    model = frozen_model()
    model.load_state_dict(torch.load(folder / "torchvision.pth", weights_only=True))

    def call() -> int:
        with torch.inference_mode():
            output = model([to_tensor(image)])[0]
        masks = output["masks"][:, 0] > 0.5
        return len(masks)

    return call


def _ours(image: NDArray[np.uint8], folder: Path, mode: str, *, few: bool) -> Side:
    from models import Predictor
    from models.wanted import Wanted
    from service.allocator import give_back_free_memory

    predictor = Predictor.from_files(
        folder / "config.yaml", folder / "model.pth", device="cpu", mode=mode
    )
    give_back_free_memory()  # as the service does
    if not few:
        return lambda: len(predictor(image).pred_masks)
    scores = predictor(image).scores
    threshold = float(scores[FEW - 1] + scores[FEW]) / 2

    def call() -> int:
        inputs = {
            "image": predictor.preprocess(image),
            "height": image.shape[0],
            "width": image.shape[1],
            "wanted": Wanted(score_threshold=threshold),
        }
        with torch.inference_mode():
            return len(predictor.model([inputs])[0]["instances"].pred_masks)

    return call


class Process:
    """One side in a process of its own, loaded from files as a service does; it runs when told to."""

    def __init__(self, name: str, threads: int, folder: Path) -> None:
        command = [sys.executable, __file__, "--side", name, str(folder)]
        self._process = subprocess.Popen(
            [*command, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()  # it is loaded

    def run(self) -> dict[str, float]:
        """One run: seconds by the clock and of CPU, objects, and the peak of memory until now."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write("run\n")
        stdin.flush()
        return self._answer()

    def end(self) -> None:
        self._process.communicate()

    def _answer(self) -> dict[str, float]:
        stdout = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            raise SystemExit("A side has ended before its time; its message is above.")
        answer: dict[str, float] = json.loads(line)
        return answer


def be_a_side(name: str, folder: Path) -> None:
    """What such a process does; ours tunes the allocator, as `detserve serve` does."""
    image = picture()
    import torchvision  # noqa: F401  # what both sides import is told apart

    imports_mb = _peak_mb()
    if name != PEER:
        from service.allocator import keep_large_buffers

        keep_large_buffers()
    call = make_side(name, image, folder)
    print(json.dumps({"objects": call()}), flush=True)  # a warm-up as well
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        objects = call()
        answer = {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "objects": objects,
            "peak_mb": _peak_mb(),
            "imports_mb": imports_mb,
        }
        print(json.dumps(answer), flush=True)


def _peak_mb() -> float:
    # Not by getrusage: there a process begins with what its parent had when it was started.
    used = process_usage(os.getpid())
    if used is None:
        raise SystemExit("Memory is read from /proc, which is not here.")
    return used.peak_bytes / 1e6


def measure(names: list[str], threads: int, turns: int, folder: Path) -> dict[str, Any]:
    """Every side once in each turn, one at a time: lists of what :meth:`Process.run` gives."""
    sides = {name: Process(name, threads, folder) for name in names}
    found: dict[str, Any] = {name: [] for name in names}
    for _ in track(range(turns), "Timing"):
        for name, side in sides.items():
            found[name].append(side.run())
    for side in sides.values():
        side.end()
    return {
        name: {key: [run[key] for run in runs] for key in runs[0]} for name, runs in found.items()
    }


def compare(found: dict[str, Any]) -> dict[str, Any]:
    """Print the table; the same as data."""
    table = Table(
        title=f"Mask R-CNN R50-FPN, {WIDTH}x{HEIGHT} run at 800x1067; medians of the turns"
    )
    for head in ("side", "objects", "s", "CPU s", "times as fast", "by CPU", "peak MB", "share"):
        table.add_column(head, justify="left" if head == "side" else "right")
    result: dict[str, Any] = {}
    peer_mb = found[PEER]["peak_mb"][-1]
    for name, measured in found.items():
        ratios = {
            key: [a / b for a, b in zip(found[PEER][key], measured[key], strict=True)]
            for key in ("wall_s", "cpu_s")
        }
        peak, imports = measured.pop("peak_mb")[-1], measured.pop("imports_mb")[-1]
        share = peak / peer_mb
        table.add_row(
            name,
            str(int(measured["objects"][0])),
            f"{statistics.median(measured['wall_s']):.2f}",
            f"{statistics.median(measured['cpu_s']):.2f}",
            _spread(ratios["wall_s"]),
            _spread(ratios["cpu_s"]),
            f"{peak:.0f}",
            f"{share:.2f}",
        )
        result[name] = {
            **measured,
            "times_as_fast": ratios["wall_s"],
            "times_as_fast_by_cpu": ratios["cpu_s"],
            "peak_mb": peak,
            "imports_mb": imports,
            "memory_share": share,
        }
    Console().print(table)
    return result


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        name, folder = arguments.side
        be_a_side(name, Path(folder))
        return
    names = [PEER, *arguments.modes, *(f"{mode}-few" for mode in arguments.modes[-1:])]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_weights(folder)
        found = measure(names, arguments.threads, arguments.turns, folder)
    write_result(
        arguments.out / "torchvision.json",
        {
            "machine": machine(),
            "versions": versions(),
            "threads": arguments.threads,
            "picture": {"width": WIDTH, "height": HEIGHT, "run_at": [800, 1067]},
            "sides": compare(found),
        },
    )


if __name__ == "__main__":
    main()
