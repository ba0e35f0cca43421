"""Trainings that the sections look at: what they learn from, how long, and what is noted meanwhile."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coco_ap import DATA
from numpy.typing import NDArray
from PIL import Image
from shapes_data import NAMES, make_shapes
from tiny_training import tiny_training_config

from gpu_sections.setting import TIMED, Setting, seeded
from models import load_config
from models.config import Config
from models.device import use_exact_float32
from models.evaluation import CocoDataset
from models.training import Trainer, TrainingOptions, TrainingResult
from models.training.data.dataset import TrainingDataset

SHAPES_CONFIG = DATA / "config.yaml"
"""What Detectron2's golden training of the shapes had."""
CLASSES = 80
OBJECTS = 7
"""In a picture, as in COCO."""

Act = Callable[[int], None]


@dataclass(frozen=True)
class Amounts:
    """How much is done.

    Attributes:
        pictures: random ones to learn from, of ``height`` and ``width``.
        batches: pictures of an iteration, for the timings.
        lines: that are timed, of ``line`` iterations each; two more before them warm up.
        shapes: pictures of shapes to learn from, and ``shapes_iterations`` of it.
        resume_at, resume_end: iterations after which a training is saved, and ended.
        memory_iterations: with pictures of varying size.
    """

    pictures: int = 128
    height: int = 480
    width: int = 640
    min_size: int = 800
    batches: tuple[int, ...] = (16, 8)
    line: int = 4
    lines: int = 6
    workers: int = 16
    shapes: int = 600
    shapes_iterations: int = 300
    resume_at: int = 20
    resume_end: int = 30
    memory_iterations: int = 200


QUICK = Amounts(
    pictures=4,
    height=60,
    width=80,
    min_size=64,
    batches=(2,),
    line=1,
    lines=3,
    workers=0,
    shapes=4,
    shapes_iterations=3,
    resume_at=2,
    resume_end=4,
    memory_iterations=6,
)


def amounts_of(setting: Setting) -> Amounts:
    """A CPU is given little to do: it is not what is measured here."""
    return Amounts() if setting.on_gpu and not setting.quick else QUICK


@dataclass
class Notes:
    """Follows a training.

    Attributes:
        lines: of its log.
        allocated, reserved: of the GPU's memory, MiB after each iteration.
        act: called after each iteration with its number.
    """

    setting: Setting
    act: Act | None = None
    lines: list[dict[str, float]] = field(default_factory=list)
    allocated: list[float] = field(default_factory=list)
    reserved: list[float] = field(default_factory=list)

    def step(self, iteration: int, figures: Mapping[str, float]) -> None:
        """See :class:`models.training.Watcher`."""
        self.setting.check_time()
        if figures:
            self.lines.append({"iteration": iteration, **figures})
        if self.setting.on_gpu:
            self.allocated.append(torch.cuda.memory_allocated(self.setting.device) / 2**20)
            self.reserved.append(torch.cuda.memory_reserved(self.setting.device) / 2**20)
        if self.act is not None:
            self.act(iteration)

    def evaluated(self, done: int, total: int) -> None:
        """See :class:`models.training.Watcher`."""
        self.setting.check_time()

    def note(self, text: str) -> None:
        """See :class:`models.training.Watcher`."""


def train(
    cfg: Config,
    data: TrainingDataset,
    output: Path,
    setting: Setting,
    *,
    val: CocoDataset | None = None,
    weights: Path | None = None,
    resume: bool = False,
    channels_last: bool = False,
    act: Act | None = None,
    **options: Any,
) -> tuple[Notes, TrainingResult]:
    """Run the real trainer, which measures and saves at its end unless ``options`` say otherwise."""
    notes = Notes(setting, act)
    end = cfg.SOLVER.MAX_ITER
    periods = {"eval_period": end, "checkpoint_period": end}
    trainer = Trainer(
        cfg,
        data,
        val,
        output=output,
        weights=weights,
        options=TrainingOptions(**(periods | options)),
        device=str(setting.device),
        watcher=notes,
    )
    if channels_last:
        trainer.model.to(memory_format=torch.channels_last)
    if resume:
        trainer.resume()
    if setting.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(setting.device)
    return notes, trainer.train()


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """For the data and what the trainings leave; float32 is exact again afterwards."""
    with tempfile.TemporaryDirectory() as name:
        try:
            yield Path(name)
        finally:
            use_exact_float32()


def mask_rcnn(setting: Setting, changes: Mapping[str, Any]) -> Config:
    """Mask R-CNN R50-FPN as in the model zoo; on a CPU a tiny one."""
    amounts = amounts_of(setting)
    if amounts is QUICK:
        cfg = tiny_training_config({"MODEL.ROI_HEADS.NUM_CLASSES": CLASSES})
    else:
        cfg = seeded(TIMED["mask_rcnn"])[1]
    own = {
        "INPUT.MIN_SIZE_TRAIN": (amounts.min_size,),
        # So small that the weights stay as they are: what is timed is not to change meanwhile.
        "SOLVER.BASE_LR": 1e-6,
        "SOLVER.STEPS": (),
    }
    return overridden(cfg, own | dict(changes))


def mask_rcnn_weights(setting: Setting, folder: Path) -> Path | None:
    """Those of the golden answers, whose activations are of the usual size; none for a tiny model."""
    if amounts_of(setting) is QUICK:
        return None
    path = folder / "seeded.pth"
    if not path.exists():
        torch.save({"model": seeded(TIMED["mask_rcnn"])[0].state_dict()}, path)
    return path


def shapes(setting: Setting, changes: Mapping[str, Any]) -> Config:
    """The config of the shapes, from random weights; on a CPU a tiny one."""
    if amounts_of(setting) is QUICK:
        return overridden(tiny_training_config(), changes)
    return overridden(load_config(SHAPES_CONFIG, ["MODEL.WEIGHTS", ""]), changes)


def shapes_data(setting: Setting, folder: Path) -> TrainingDataset:
    """Pictures of shapes, as the golden ones are drawn."""
    path = folder / "train.json"
    if not path.exists():
        make_shapes(amounts_of(setting).shapes, folder, 1, "train")
    return TrainingDataset.load(path, class_names=NAMES[:4])


def random_data(
    setting: Setting, folder: Path, heights: tuple[int, ...] | None = None
) -> TrainingDataset:
    """Pictures of coarse noise with polygons of random classes; their files stay in memory once read.

    Args:
        heights: of the pictures in turn; None: all are as the amounts say.
    """
    amounts = amounts_of(setting)
    random = np.random.default_rng(0)
    (folder / "pictures").mkdir(parents=True)
    content: dict[str, list[Any]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(CLASSES)],
    }
    for number in range(1, amounts.pictures + 1):
        height = amounts.height if heights is None else heights[number % len(heights)]
        coarse = random.integers(0, 256, (height // 8, amounts.width // 8, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((amounts.width, height), Image.Resampling.BICUBIC)
        picture.save(folder / "pictures" / f"{number}.jpg", quality=90)
        size = {"width": amounts.width, "height": height}
        content["images"].append({"id": number, "file_name": f"{number}.jpg", **size})
        for _ in range(OBJECTS):
            polygon = _polygon(random, amounts.width, height)
            low, high = polygon.min(axis=0), polygon.max(axis=0)
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": int(random.integers(1, CLASSES + 1)),
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "area": float((high - low).prod()),
                    "iscrowd": 0,
                    "segmentation": [polygon.flatten().tolist()],
                }
            )
    path = folder / "random.json"
    path.write_text(json.dumps(content))
    return TrainingDataset.load(path, folder / "pictures")


def overridden(cfg: Config, changes: Mapping[str, Any]) -> Config:
    """The config with these keys changed."""
    for key, value in changes.items():
        cfg = cfg.override(key, value)
    return cfg


def _polygon(random: np.random.Generator, width: int, height: int) -> NDArray[np.float64]:
    """Sixteen points around a middle, (16, 2), inside the picture."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    radius = random.uniform(0.05, 0.3) * min(width, height)
    radii = radius * random.uniform(0.6, 1.0, len(angles))
    middle = random.uniform((radius, radius), (width - radius, height - radius))
    return middle + np.stack((np.cos(angles), np.sin(angles)), axis=1) * radii[:, None]
