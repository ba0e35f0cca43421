"""Checks and times the models on a device, in one call: golden answers first, then milliseconds.

    python benchmarks/device.py --device cuda --out benchmarks/results

It needs PyTorch, torchvision, NumPy, Pillow, PyYAML, safetensors, rich and pycocotools, and nothing of
the service. The answers on the device are held against Detectron2's golden ones by the rules of
``docs/fidelity.md``; a device that breaks them makes it exit with 1. Times are of ``model.predict`` on
synthetic pictures of one size, float32 with TF32 off, with the spread over repeats.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torchvision
from rich.progress import track

REPOSITORY = Path(__file__).parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "support")]

from golden import GOLDEN, compare_run, run_case  # noqa: E402  # see the path above
from seeded_weights import seeded_state  # noqa: E402  # likewise

from models import build_model, load_config  # noqa: E402  # likewise
from models.device import resolve_device, use_exact_float32  # noqa: E402  # likewise

CHECKED = (
    "COCO-Detection__faster_rcnn_R_50_FPN_3x",
    "COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x",
    "COCO-Keypoints__keypoint_rcnn_R_50_FPN_3x",
    "COCO-PanopticSegmentation__panoptic_fpn_R_50_3x",
    "COCO-Detection__retinanet_R_50_FPN_3x",
    "Misc__cascade_mask_rcnn_R_50_FPN_3x",
    "Misc__mask_rcnn_R_50_FPN_3x_dconv_c3-c5",
    "custom__faster_rcnn_R_50_FPN_rotated",
    "lazy__fcos_R_50_FPN_1x",
)
TIMED = (
    "COCO-Detection__faster_rcnn_R_50_FPN_3x",
    "COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x",
    "COCO-Detection__retinanet_R_50_FPN_3x",
)
SIZE = (800, 1333)


def check(device: torch.device) -> dict[str, Any]:
    """Golden answers on ``device``: worst differences per case, and what broke a rule."""
    results = {}
    for name in track(CHECKED, "Checking"):
        found = compare_run(run_case(name, device=str(device)))
        results[name] = {
            "clear": found.clear,
            "matched": found.matched,
            "worst_box_px": found.worst_box,
            "worst_score": found.worst_score,
            "worst_mask_iou": found.worst_mask_iou,
            "broken": list(found.broken),
        }
    return results


def measure(
    device: torch.device, batches: list[int], repeats: int, size: tuple[int, int]
) -> dict[str, Any]:
    """Milliseconds per image of ``predict`` by batch size: median, least and most over repeats."""
    results: dict[str, Any] = {}
    generator = torch.Generator().manual_seed(0)
    pictures = [
        torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
        for _ in range(max(batches))
    ]
    for name in track(TIMED, "Timing"):
        expected = json.loads((GOLDEN / name / "expected.json").read_text())
        model: Any = build_model(load_config(GOLDEN / name / "config.yaml"))
        state = seeded_state(model, expected["seed"], expected["stem_gain"])
        model.load_state_dict(state, strict=False)
        model.to(device)
        results[name] = {}
        for batch in batches:
            inputs = [{"image": picture} for picture in pictures[:batch]]
            call = functools.partial(model.predict, inputs)
            times = [t / batch for t in _times(call, device, repeats)]
            results[name][batch] = {
                "ms_per_image": round(statistics.median(times), 2),
                "least": round(min(times), 2),
                "most": round(max(times), 2),
            }
    return results


def _times(call: Callable[[], Any], device: torch.device, repeats: int) -> list[float]:
    """Milliseconds of each of ``repeats`` calls, behind two to warm up."""
    times = []
    with torch.inference_mode():
        for i in range(repeats + 2):
            started = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if i >= 2:
                times.append((time.perf_counter() - started) * 1000)
    return times


def main() -> int:
    """Check, time and write the results; 1 if an answer on the device breaks a rule."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("H", "W"))
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: PyTorch's default")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    use_exact_float32()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    answer = {
        "date": date.today().isoformat(),
        "device": f"{device.type} {name or platform.machine()}",
        "cpu_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "image_size": list(arguments.size),
        "precision": "float32, TF32 off",
        "golden": check(device),
        "timing": measure(
            device, arguments.batches, arguments.repeats, (arguments.size[0], arguments.size[1])
        ),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"device-{device.type}.json"
    path.write_text(json.dumps(answer, indent=1) + "\n")
    print(json.dumps(answer["timing"], indent=1))
    broken = [case for case, found in answer["golden"].items() if found["broken"]]
    print(f"Wrote {path}; golden answers broken: {', '.join(broken) or 'none'}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
