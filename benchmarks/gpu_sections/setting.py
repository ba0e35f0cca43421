"""What a run of ``benchmarks/gpu.py`` was asked for, and the models and pictures that it uses."""

from __future__ import annotations

import copy
import functools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from golden import GOLDEN
from numpy.typing import NDArray
from PIL import Image
from seeded_weights import seeded_state
from torch import nn

from models import Predictor, build_model, load_config
from models.config import Config
from models.execution import Mode

TIMED = {
    "mask_rcnn": "COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x",
    "faster_rcnn": "COCO-Detection__faster_rcnn_R_50_FPN_3x",
    "retinanet": "COCO-Detection__retinanet_R_50_FPN_3x",
}


class OutOfTimeError(Exception):
    """The time that the run may take is used up."""


@dataclass(frozen=True)
class Setting:
    """The arguments of a run.

    Attributes:
        device: where to run.
        size: (height, width) of the pictures of the timings.
        batches: pictures in a batch.
        models: names out of :data:`TIMED`.
        cases: folders of the golden answers.
        seconds: at least so long is measured, and at least three times.
        deadline: of the run, in the seconds of ``time.monotonic``.
        jpegs: pictures that go from end to end.
        threads: that decode and encode, from end to end.
        quick: whether next to nothing is done, to see that it works.
    """

    device: torch.device
    size: tuple[int, int]
    batches: tuple[int, ...]
    models: tuple[str, ...]
    cases: tuple[str, ...]
    seconds: float
    deadline: float
    jpegs: int
    threads: int
    quick: bool = False

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def check_time(self) -> None:
        """Raises :class:`OutOfTimeError` once the deadline has passed."""
        if time.monotonic() > self.deadline:
            raise OutOfTimeError("the run's time is used up; see --minutes")

    def finish(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)


def seeded_predictor(
    name: str, setting: Setting, mode: Mode, overrides: tuple[Any, ...] = ()
) -> Predictor:
    """A model of :data:`TIMED` with the weights of its golden answers: some 100 detections."""
    model, cfg = seeded(TIMED[name], overrides)
    return Predictor(copy.deepcopy(model).to(setting.device), cfg, mode=mode)


@functools.lru_cache(maxsize=2 * len(TIMED))
def seeded(case: str, overrides: tuple[Any, ...] = ()) -> tuple[nn.Module, Config]:
    """A model of the golden answers with their weights, on the CPU; made once: that takes seconds."""
    expected = json.loads((GOLDEN / case / "expected.json").read_text())
    cfg = load_config(GOLDEN / case / "config.yaml", overrides)
    model = build_model(cfg)
    model.load_state_dict(
        seeded_state(model, expected["seed"], expected["stem_gain"]), strict=False
    )
    return model, cfg


def pictures(number: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    """Pictures (height, width, 3) of a scene with objects, each shifted by another amount."""
    scene = Image.open(GOLDEN / "scene_a.png").convert("RGB").resize((width, height))
    pixels = np.asarray(scene)
    return [np.roll(pixels, 37 * i, axis=1) for i in range(number)]


def inputs(number: int, setting: Setting) -> list[dict[str, Any]]:
    """Inputs of a model: pictures of the timings' size in pinned memory."""
    made = []
    for picture in pictures(number, *setting.size):
        image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
        made.append({"image": image.pin_memory() if setting.on_gpu else image})
    return made


def timed(
    call: Callable[[], Any], setting: Setting, images: int, *, share: float = 1.0
) -> dict[str, float]:
    """Milliseconds per image: median, least and most over calls, behind two to warm up.

    ``share`` of the usual seconds is measured.
    """
    setting.check_time()
    for _ in range(2):
        call()
    setting.finish()
    times: list[float] = []
    while len(times) < 3 or sum(times) < share * setting.seconds:
        started = time.perf_counter()
        call()
        setting.finish()
        times.append(time.perf_counter() - started)
    median = statistics.median(times)
    return {
        "images_per_s": round(images / median, 2),
        "ms_per_image": round(1000 * median / images, 3),
        "least": round(1000 * min(times) / images, 3),
        "most": round(1000 * max(times) / images, 3),
        "calls": len(times),
    }
