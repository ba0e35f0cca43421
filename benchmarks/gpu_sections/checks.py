"""Whether a device gives the answers that it should."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
import torchvision.ops
from golden import compare_run, run_case
from rich.progress import track
from torchvision.transforms.v2 import functional as tv

from gpu_sections.setting import Setting, inputs, pictures, seeded_predictor
from models import Predictor
from models.execution import deviation
from models.execution.cuda_graphs import CudaGraphs
from models.execution.cuda_warm_up import record_shapes
from models.execution.deviation import Deviation
from models.execution.plan import Mode
from models.layers.batched_nms import suppress
from models.transforms import resize_image_fast

REPOSITORY = Path(__file__).parent.parent.parent
MODES: tuple[Mode, ...] = ("reference", "exact")


class CheckFailedError(Exception):
    """An answer is not what it should be; holds what was found."""

    def __init__(self, message: str, found: dict[str, Any]) -> None:
        super().__init__(message)
        self.found = found


def golden(setting: Setting) -> dict[str, Any]:
    """Detectron2's own answers in float32: worst differences of each case, and rules that broke."""
    results: dict[str, Any] = {}
    for mode in MODES:
        for name in track(setting.cases, f"golden, {mode}"):
            setting.check_time()
            run = run_case(name, device=str(setting.device), mode=mode)
            found = compare_run(run)
            results[f"{name} {mode}"] = {
                "mode": run.plan.mode,
                "clear": found.clear,
                "matched": found.matched,
                "worst_box_px": found.worst_box,
                "worst_score": found.worst_score,
                "worst_mask_iou": found.worst_mask_iou,
                "broken": list(found.broken),
            }
    broken = [name for name, found in results.items() if found["broken"]]
    if broken:
        raise CheckFailedError(f"golden answers broken: {', '.join(broken)}", results)
    return results


def fast_mode(setting: Setting) -> dict[str, Any]:
    """How far the fast mode is from the reference, as each load measures it."""
    results = {}
    for name in setting.models:
        setting.check_time()
        results[name] = seeded_predictor(name, setting, "fast").plan.to_dict()
    return results


def suppression(setting: Setting) -> dict[str, Any]:
    """Suppression of all groups at once on the device against torchvision's kernel on the CPU."""
    generator = torch.Generator().manual_seed(0)
    wrong = compared = 0
    for threshold in (0.3, 0.5, 0.6, 0.7):
        corners = torch.rand(12, 1000, 2, 2, generator=generator) * 200
        corners[6:] = corners[6:].round()  # ties, and boxes without area
        boxes = torch.cat((corners.amin(dim=2), corners.amax(dim=2)), dim=2)
        valid = torch.rand(12, 1000, generator=generator) < 0.9
        kept = suppress(boxes.to(setting.device), valid.to(setting.device), threshold).cpu()
        for group, (all_boxes, mask) in enumerate(zip(boxes, valid, strict=True)):
            index = mask.nonzero().flatten()
            falling = torch.arange(len(index), 0, -1).float()
            expected = torch.zeros_like(mask)
            expected[index[torchvision.ops.nms(all_boxes[index], falling, threshold)]] = True
            wrong += int((expected != kept[group]).sum())
            compared += len(index)
    found = {"boxes": compared, "wrong": wrong}
    if wrong:
        raise CheckFailedError("suppression differs from torchvision's", found)
    return found


def resize(setting: Setting) -> dict[str, Any]:
    """The device's resize against the host's, which may be one grey level away."""
    (picture,) = pictures(1, 1080, 1920)
    host = resize_image_fast(picture, 750, 1333).astype(np.int16)
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1).to(setting.device)
    there = tv.resize(image, [750, 1333], antialias=True).permute(1, 2, 0).cpu().numpy()
    differences = np.abs(there.astype(np.int16) - host)
    found = {
        "largest": int(differences.max()),
        "share_that_differs": round(float((differences > 0).mean()), 5),
    }
    if differences.max() > 1:
        raise CheckFailedError("the device's resize is more than a grey level off", found)
    return found


def company(setting: Setting) -> dict[str, Any]:
    """How far an image's answer alone is from that in a full batch."""
    results = {}
    for mode in ("exact", "fast"):
        for name in setting.models:
            setting.check_time()
            model = seeded_predictor(name, setting, mode).model
            batch = inputs(max(setting.batches), setting)
            alone, among = _answers(model, batch[:1]), _answers(model, batch)[:1]
            results[f"{name} {mode}"] = deviation(alone, among).to_dict()
    return results


def graphs(setting: Setting) -> dict[str, Any]:
    """Answers with recorded parts against those without; what was recorded, and how long it took."""
    results: dict[str, Any] = {}
    broken = []
    for mode in ("exact", "fast"):
        for name in setting.models:
            setting.check_time()
            predictor = seeded_predictor(name, setting, mode)
            batch = inputs(2, setting)
            plain = _answers(predictor.model, batch)
            recorded = record(predictor, setting, (1, 2))
            found = deviation(plain, _answers(predictor.model, batch))
            again = deviation(plain, _answers(predictor.model, batch[::-1])[::-1])
            key = f"{name} {mode}"
            results[key] = {"graphs": len(recorded), **found.to_dict()}
            # In half precision another kernel rounds otherwise; it must still find the same objects.
            if not (_is_close(found, mode) and _is_close(again, mode) and len(recorded)):
                broken.append(key)
    if broken:
        raise CheckFailedError(f"recorded parts change answers: {', '.join(broken)}", results)
    return results


def synchronisations(setting: Setting) -> dict[str, Any]:
    """How often, and where, a batch makes the host wait for the GPU."""
    results: dict[str, Any] = {}
    for name in setting.models:
        setting.check_time()
        model = seeded_predictor(name, setting, "exact").model
        for number in setting.batches[:4]:
            batch = inputs(number, setting)
            _answers(model, batch)
            setting.finish()
            places: Counter[str] = Counter()
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = noting(places)
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    _answers(model, batch)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            results[f"{name} batch {number}"] = {"total": places.total(), "places": dict(places)}
    return results


def record(predictor: Predictor, setting: Setting, batches: tuple[int, ...]) -> CudaGraphs:
    """Record a model's parts for batches of pictures of the timings' size."""
    channels_last = predictor.plan.memory_format == "channels_last"
    divisor = predictor.model.size_divisibility or 1
    height, width = (-(-side // divisor) * divisor for side in setting.size)
    return record_shapes(
        predictor.model,
        [(height, width)],
        max_detections=100,
        batch_sizes=batches,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )


def _is_close(found: Deviation, mode: str) -> bool:
    return found.is_exact if mode == "exact" else found.matched >= 0.95


def _answers(model: Any, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with torch.inference_mode():
        outputs: list[dict[str, Any]] = model.predict(batch)
    return outputs


def noting(places: Counter[str]) -> Any:
    """What counts a warning under the innermost line of ours that led to it."""

    def note(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if "synchroniz" not in str(message):
            return
        ours = [
            frame
            for frame in traceback.extract_stack()
            if Path(frame.filename).is_relative_to(REPOSITORY / "models")
        ]
        place = f"{Path(filename).name}:{lineno}"
        if ours:
            path = Path(ours[-1].filename).relative_to(REPOSITORY)
            place = f"{path}:{ours[-1].lineno} {ours[-1].name}"
        places[place] += 1

    return note
