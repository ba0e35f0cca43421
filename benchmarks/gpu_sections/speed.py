"""How many images a second the models take, in all ways to run them, and where the time goes."""

from __future__ import annotations

import functools
import itertools
import time
from typing import Any

import torch

from gpu_sections.checks import record
from gpu_sections.setting import OutOfTimeError, Setting, inputs, seeded_predictor, timed
from models.execution import Mode
from models.execution.layout import use_channels_last_
from models.wanted import Wanted

LARGEST_RECORDED_BATCH = 8
# The mode, whether it is brought into channels-last memory besides, whether cuDNN tries its kernels.
WAYS: tuple[tuple[Mode, bool, bool], ...] = (
    ("reference", False, False),
    ("exact", False, False),
    ("exact", False, True),
    ("exact", True, True),
    ("fast", False, False),
    ("fast", False, True),
)


def model_only(setting: Setting) -> dict[str, Any]:
    """``predict`` on pictures in pinned memory: upload, network, choice, soft masks to the host."""
    results: dict[str, Any] = {}
    try:
        # The figures that matter most come first, should the time run out.
        for name, way in itertools.product(setting.models, reversed(WAYS)):
            _run(name, *way, setting, results)
    except OutOfTimeError as error:
        results["incomplete"] = str(error)
    return results


def _run(
    name: str, mode: Mode, relayout: bool, tuned: bool, setting: Setting, results: dict[str, Any]
) -> None:
    if not setting.on_gpu and (relayout or tuned):
        return  # a CPU's modes decide that by themselves
    predictor = seeded_predictor(name, setting, mode)
    if predictor.plan.mode != mode:
        results[f"{name} {mode}"] = {"not run": predictor.plan.reason}
        return
    if relayout:
        use_channels_last_(predictor.model)
    layout = "channels_last" if relayout else predictor.plan.memory_format
    key = f"{name} {mode} {predictor.plan.dtype} {layout}" + (" tuned" if tuned else "")
    torch.backends.cudnn.benchmark = tuned
    try:
        results[key] = _by_batch(predictor.model, setting)
        if setting.on_gpu and tuned and not relayout:
            batches = tuple(n for n in setting.batches if n <= LARGEST_RECORDED_BATCH)
            started = time.perf_counter()
            recorded = record(predictor, setting, batches)
            seconds = time.perf_counter() - started
            results[f"{key} graphs"] = {
                "recorded": len(recorded),
                "recording_s": round(seconds, 1),
                **_by_batch(predictor.model, setting),
            }
            recorded.remove()
    finally:
        torch.backends.cudnn.benchmark = False
        del predictor
        if setting.on_gpu:
            torch.cuda.empty_cache()


def _by_batch(model: Any, setting: Setting) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number in setting.batches:
        if setting.on_gpu:
            torch.cuda.reset_peak_memory_stats(setting.device)
        with torch.inference_mode():
            call = functools.partial(model.predict, inputs(number, setting))
            found[str(number)] = timed(call, setting, number)
            instances = [len(output["instances"]) for output in call()]
        found[str(number)]["instances"] = round(sum(instances) / number, 1)
        if setting.on_gpu:
            peak = torch.cuda.max_memory_allocated(setting.device)
            found[str(number)]["peak_mib"] = round(peak / 2**20)
    return found


def stages(setting: Setting) -> dict[str, Any]:
    """Milliseconds per image of each part of an R-CNN; waiting between them costs a little too."""
    results: dict[str, Any] = {}
    modes: tuple[Mode, ...] = ("exact", "fast")
    for name, mode in itertools.product(setting.models, modes):
        model = seeded_predictor(name, setting, mode).model
        if not hasattr(model, "roi_heads"):
            continue
        for number in {setting.batches[0], min(LARGEST_RECORDED_BATCH, setting.batches[-1])}:
            with torch.inference_mode():
                results[f"{name} {mode} batch {number}"] = _stages(model, number, setting)
    return results


def _stages(model: Any, number: int, setting: Setting) -> dict[str, float]:
    batch = inputs(number, setting)
    wanted = Wanted(max_detections=20)
    images = model.preprocess_image(batch)
    features = model.backbone(images.tensor)
    levels = [features[name] for name in model.proposal_generator.in_features]
    proposals = model.propose(images, features, batch)
    found = model.roi_heads.detect_boxes(features, proposals)
    few = [one[wanted.index(one)] for one in found]
    complete = model.roi_heads.forward_with_given_boxes
    calls = {
        "upload and normalise": lambda: model.preprocess_image(batch),
        "backbone": lambda: model.backbone(images.tensor),
        "RPN head": lambda: model.proposal_generator.rpn_head(levels),
        "RPN head and choice": lambda: model.propose(images, features, batch),
        "boxes": lambda: model.roi_heads.detect_boxes(features, proposals),
        "masks of all": lambda: complete(features, [one[:] for one in found]),
        "masks of 20": lambda: complete(features, [one[:] for one in few]),
    }
    if not model.roi_heads.mask_on:
        calls = {name: call for name, call in calls.items() if not name.startswith("masks")}
    return {
        name: timed(call, setting, number, share=0.2)["ms_per_image"]
        for name, call in calls.items()
    }
