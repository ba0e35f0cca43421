"""A detector that tests control: when it answers, on what it fails, and what it was given.

A picture of one colour stands for an image; its red value is the image's mark. Answers tell the
detector's number and the mark in their boxes, so a test sees who answered what.
"""

import io
import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models.structures import Boxes, Instances
from service.inference.detector import ModelDescription, Prediction, PreparedImage, Views
from service.repository.source import ModelSource

NAMES = ("disc", "square", "star, red", "1")
SCORES = (0.9, 0.6, 0.3)
STEP = 0.125  # boxes tell numbers in steps that float32 holds exactly
PATIENCE_S = 20.0
"""How long a test waits for what must come; only a failing one waits that long."""


class FakeDetector:
    """Finds three instances in every image, of classes 0, 1 and 2.

    Attributes:
        number: told in the left side of every box.
        batches: marks of the images of every batch that it was given, self-checks left out.
        fail_on: marks of images on which it raises.
        fits: images that fit the memory; more are out of memory.
        go: batches wait for it; set unless a test clears it.
        held: set when a batch had to wait for ``go``.
        closed: how often it was closed.
        given: views and proposals of every image that it prepared.
        predicts: what it answers to an image, in the place of three instances.
    """

    def __init__(self, number: int = 1, *, recipe: Hashable = "rgb", **described: Any) -> None:
        self.number = number
        self.recipe = recipe
        self.batches: list[list[int]] = []
        self.fail_on: set[int] = set()
        self.fits = 1_000_000
        self.answers: Callable[[list[Instances]], list[Instances]] = lambda answers: answers
        self.error: Callable[[], BaseException] = lambda: RuntimeError("a kernel failed")
        self.go = threading.Event()
        self.go.set()
        self.held = threading.Event()
        self.closed = 0
        self.given: list[tuple[Views | None, NDArray[np.float32] | None]] = []
        self.predicts: Callable[[PreparedImage], Prediction] | None = None
        self._entered: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        described = {
            "architecture": "FakeRCNN",
            "backbone": "Fake-1 FPN",
            "task": "instance_segmentation",
            "class_names": NAMES,
            "class_names_source": "labels.txt",
            "score_threshold": 0.05,
            "nms_threshold": 0.5,
            "max_detections": 100,
            "input_format": "BGR",
            "min_size": 64,
            "max_size": 128,
            "device": "cpu",
            "precision": "float32",
            "weights_file": "model_final.pth",
            "weights_sha256": f"{number:064x}",
            "config_file": "config.yaml",
            "load_report": {"missing": []},
        } | described
        masks = described["task"] == "instance_segmentation"
        described.setdefault("outputs", ("instances", "masks") if masks else ("instances",))
        self.description = ModelDescription(**described)

    def prepare(
        self,
        pixels: NDArray[np.uint8],
        *,
        tta: Views | None = None,
        proposals: NDArray[np.float32] | None = None,
    ) -> PreparedImage:
        self.given.append((tta, proposals))
        height, width = pixels.shape[:2]
        sizes = tta.sizes * (2 if tta.flip else 1) if tta is not None else ()
        views = [{"image": torch.zeros(3, size, size, dtype=torch.uint8)} for size in sizes]
        return PreparedImage(
            tensor=torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
            height=height,
            width=width,
            padded_size=(-(-height // 32) * 32, -(-width // 32) * 32),
            recipe=self.recipe,
            views=tuple(views),
            proposals=torch.from_numpy(proposals) if proposals is not None else None,
        )

    def infer(
        self, batch: Sequence[PreparedImage], pause: Callable[[], None] | None = None
    ) -> list[Prediction]:
        assert self.closed == 0, "a closed detector was used"
        marks = [mark_of(image) for image in batch]
        self.batches.append(marks)
        self._entered.put(marks)
        if not self.go.is_set():
            self.held.set()
        assert self.go.wait(PATIENCE_S)
        if len(batch) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.fail_on & set(marks):
            raise self.error()
        if self.predicts is not None:
            return [self.predicts(image) for image in batch]
        found = self.answers([self._find(image) for image in batch])
        return [Prediction(instances=instances) for instances in found]

    def close(self) -> int:
        self.closed += 1
        return 1000 + self.number

    def forget(self) -> None:
        """Let the batches be as if they had not been."""
        for _ in self.batches:
            self.entered()
        self.batches.clear()
        self.given.clear()

    def entered(self) -> list[int]:
        """Wait until a batch is with the model, the next that was not waited for: its marks."""
        return self._entered.get(timeout=PATIENCE_S)

    def _find(self, image: PreparedImage) -> Instances:
        box = [self.number * STEP, mark_of(image) * STEP, image.width, image.height]
        instances = Instances((image.height, image.width))
        instances.pred_boxes = Boxes(torch.tensor([box] * len(SCORES)))
        instances.scores = torch.tensor(SCORES)
        instances.pred_classes = torch.arange(len(SCORES))
        if self.description.task == "instance_segmentation":
            instances.pred_masks = torch.ones(len(SCORES), 1, 4, 4)
        return instances


class FakeLoader:
    """Hands out detectors: those of ``ready`` first, then new ones, numbered on.

    Attributes:
        sources: what it was asked to load.
        loaded: the detectors that it made.
        error: raised instead, if set.
        go: loads wait for it; set unless a test clears it.
    """

    def __init__(self, *ready: FakeDetector) -> None:
        self.ready = list(ready)
        self.sources: list[ModelSource] = []
        self.loaded: list[FakeDetector] = []
        self.error: Exception | None = None
        self.go = threading.Event()
        self.go.set()

    def __call__(self, source: ModelSource) -> FakeDetector:
        self.sources.append(source)
        assert self.go.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.loaded.append(self.ready.pop(0) if self.ready else FakeDetector(len(self.loaded) + 1))
        return self.loaded[-1]


def mark_of(image: PreparedImage) -> int:
    """The mark of a prepared image."""
    return int(image.tensor[0, 0, 0])


def pixels(mark: int, size: tuple[int, int] = (32, 32)) -> NDArray[np.uint8]:
    """(H, W, 3): the picture of a mark; ``size`` is (height, width)."""
    return np.full((*size, 3), mark, dtype=np.uint8)


def picture(mark: int, size: tuple[int, int] = (32, 32), kind: str = "PNG") -> bytes:
    """An image file of a mark."""
    file = io.BytesIO()
    Image.fromarray(pixels(mark, size)).save(file, kind)
    return file.getvalue()


def number_of(prediction: dict[str, Any]) -> int:
    """The number of the detector that answered, as its JSON tells."""
    numbers = {int(box[0] / STEP) for box in prediction["instances"]["pred_boxes"]}
    assert len(numbers) == 1
    return numbers.pop()


def answered_mark(prediction: dict[str, Any]) -> int:
    """The mark of the image that was answered, as the JSON tells."""
    return int(prediction["instances"]["pred_boxes"][0][1] / STEP)
