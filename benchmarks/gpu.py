"""Checks a device and times it, in one call that needs no web packages and ten minutes.

    python benchmarks/gpu.py --device cuda --out benchmarks/results
    python benchmarks/gpu.py --device cuda --sections training

It needs PyTorch, torchvision, NumPy, Pillow, PyYAML, safetensors, rich, httpx and pycocotools; with
simplejpeg and orjson it decodes and writes as the service does. First the answers: Detectron2's golden
ones (``docs/fidelity.md``), suppression, resize and recorded graphs against the CPU's and the plain
ways, the fast mode's AP. Then the times: models alone in all ways to run them, their stages, and from
the bytes of JPEGs to those of JSON. A section that fails is written down and does not stop the
others; it makes the call exit with 1. On a CPU (``--device cpu``, with few, small pictures) all that
needs no GPU runs too; ``--quick`` does next to nothing.

``--sections training`` is a call of its own, of ten minutes too, and needs tensorboard besides:
Detectron2's golden training steps, seconds and memory of an iteration, half precision, a resumed
training, memory over many sizes, and where the host waits for the GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torchvision
from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).parent.parent
sys.path[:0] = [
    str(REPOSITORY),
    str(REPOSITORY / "tests" / "support"),
    str(REPOSITORY / "benchmarks" / "servers"),
]

from gpu_sections import (  # noqa: E402  # see the path above
    checks,
    end_to_end,
    shapes_ap,
    speed,
    training_checks,
    training_cost,
)
from gpu_sections.setting import TIMED, Setting  # noqa: E402  # likewise
from reporting import machine  # noqa: E402  # likewise

from models.device import resolve_device, use_exact_float32  # noqa: E402  # likewise
from models.errors import ModelError  # noqa: E402  # likewise

CASES = (
    "COCO-Detection__faster_rcnn_R_50_FPN_3x",
    "COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x",
    "COCO-Keypoints__keypoint_rcnn_R_50_FPN_3x",
    "COCO-PanopticSegmentation__panoptic_fpn_R_50_3x",
    "COCO-Detection__retinanet_R_50_FPN_3x",
    "COCO-Detection__rpn_R_50_FPN_1x",
    "COCO-Detection__faster_rcnn_R_50_C4_3x",
    "Misc__cascade_mask_rcnn_R_50_FPN_3x",
    "Misc__mask_rcnn_R_50_FPN_3x_dconv_c3-c5",
    "custom__faster_rcnn_R_50_FPN_rotated",
    "lazy__fcos_R_50_FPN_1x",
)
SECTIONS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "golden": checks.golden,
    "suppression": checks.suppression,
    "resize": checks.resize,
    "fast_mode": checks.fast_mode,
    "graphs": checks.graphs,
    "company": checks.company,
    "synchronisations": checks.synchronisations,
    "shapes_ap": shapes_ap.average_precisions,
    "end_to_end": end_to_end.end_to_end,
    "model_only": speed.model_only,
    "stages": speed.stages,
    "warm_up": end_to_end.warm_up,
}
TRAINING: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "training_golden": training_checks.golden,
    "training_speed": training_cost.speed,
    "training_half_precision": training_checks.half_precision,
    "training_resume": training_checks.resume,
    "training_memory": training_cost.memory,
    "training_synchronisations": training_cost.synchronisations,
}
ALL = {**SECTIONS, **TRAINING}
ONLY_ON_A_GPU = ("graphs", "synchronisations", "warm_up", "training_synchronisations")


def run_section(section: Callable[[Setting], dict[str, Any]], setting: Setting) -> dict[str, Any]:
    """What a section found, and under ``failed`` why it did not end well."""
    started = time.perf_counter()
    found: dict[str, Any]
    try:
        found = section(setting)
    except checks.CheckFailedError as error:
        found = {**error.found, "failed": str(error)}
    except Exception as error:  # one section's failure must not lose the others
        traceback.print_exc()
        found = {"failed": f"{type(error).__name__}: {error}"}
    return {"seconds": round(time.perf_counter() - started, 1), **found}


def about(device: torch.device) -> dict[str, Any]:
    """The machine and the versions."""
    found: dict[str, Any] = {"date": date.today().isoformat(), "machine": machine()}
    found |= {"python": platform.python_version(), "torch": torch.__version__}
    found["torchvision"] = torchvision.__version__
    found["cpu_threads"] = torch.get_num_threads()
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = properties.name
        found["gpu_memory_mib"] = properties.total_memory // 2**20
        found["cuda"] = torch.version.cuda
        found["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch's own
    return found


def chosen_sections(names: list[str] | None) -> tuple[list[str], str]:
    """The sections by name, "training" being all of its own, and the beginning of the file's name."""
    if not names:
        return list(SECTIONS), "gpu"
    chosen = [n for name in names for n in (TRAINING if name == "training" else (name,))]
    return chosen, "gpu-training" if set(chosen) <= TRAINING.keys() else "gpu"


def show(results: dict[str, Any]) -> None:
    """The images per second as a table, and what failed."""
    table = Table("what", "batch", "images/s", "ms per image", "least", "most", "peak MiB")
    for way, by_batch in results.get("model_only", {}).items():
        for batch, row in by_batch.items() if isinstance(by_batch, dict) else ():
            if isinstance(row, dict):
                columns = ("images_per_s", "ms_per_image", "least", "most", "peak_mib")
                table.add_row(way, batch, *(str(row.get(column, "")) for column in columns))
    for way, row in results.get("training_speed", {}).items():
        if isinstance(row, dict) and "seconds" in row:
            batch = int(way.rpartition(" ")[2])
            times = (1000 * row[key] / batch for key in ("seconds", "least", "most"))
            columns = (str(row["images_per_s"]), *(f"{time:.3f}" for time in times))
            table.add_row(f"training, {way}", str(batch), *columns, str(row.get("peak_mib", "")))
    for way, row in results.get("end_to_end", {}).items():
        if isinstance(row, dict):
            table.add_row(f"end to end, {way}", "", str(row["images_per_s"]))
    console = Console(width=150)
    console.print(table)
    for name, found in results.items():
        if isinstance(found, dict) and "failed" in found:
            console.print(f"[red]{name}: {found['failed']}")


def main() -> int:
    """Run the sections and write what they find; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--sections", nargs="+", choices=("training", *ALL))
    parser.add_argument(
        "--quick", action="store_true", help="next to nothing, to see that it works"
    )
    parser.add_argument("--models", nargs="+", choices=TIMED, default=list(TIMED))
    parser.add_argument("--cases", nargs="+", default=CASES, help="folders of the golden answers")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1344), metavar=("H", "W"))
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement, at least")
    parser.add_argument("--minutes", type=float, default=9.0, help="of the whole run, about")
    parser.add_argument("--jpegs", type=int, default=600, help="from end to end")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: one for each core")
    arguments = parser.parse_args()
    try:
        device = resolve_device(arguments.device)
    except ModelError as error:
        parser.error(str(error))
    use_exact_float32()
    threads = arguments.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    if arguments.quick:
        arguments.size, arguments.batches, arguments.seconds = (128, 160), [1, 2], 0.0
        arguments.jpegs, arguments.cases = 4, arguments.cases[:1]
    setting = Setting(
        device=device,
        size=tuple(arguments.size),
        batches=tuple(sorted(arguments.batches)),
        models=tuple(arguments.models),
        cases=tuple(arguments.cases),
        seconds=arguments.seconds,
        deadline=time.monotonic() + 60 * arguments.minutes,
        jpegs=arguments.jpegs,
        threads=max(1, threads - 1),
        quick=arguments.quick,
    )
    results = about(device)
    results["image_size"] = list(setting.size)
    arguments.out.mkdir(parents=True, exist_ok=True)
    sections, stem = chosen_sections(arguments.sections)
    path = arguments.out / f"{stem}-{device.type}.json"
    for name in sections:
        if name in ONLY_ON_A_GPU and not setting.on_gpu:
            continue
        print(f"{name} ...", flush=True)
        torch.set_num_threads(threads)
        results[name] = run_section(ALL[name], setting)
        # After each section: what was found is not lost to a limit on the run's time.
        path.write_text(json.dumps(results, indent=1) + "\n")
    show(results)
    failed = [name for name in sections if "failed" in results.get(name, {})]
    print(f"Written: {path}; failed: {', '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
