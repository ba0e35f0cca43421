"""How well a model says of every pixel what it is: IoU and accuracy of a semantic segmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.evaluation.errors import EvaluationError
from models.evaluation.files import read_picture
from models.evaluation.semantic_dataset import SemanticDataset

IGNORED = 255
"""Value of pixels that nobody says anything of, as in most data sets."""


@dataclass(frozen=True)
class SemanticResult:
    """What was measured; figures are 0 to 100, None where there is nothing to measure them by.

    Attributes:
        figures: mIoU and mACC, means over the classes that are there; fwIoU, the mean of IoU weighed by
            how many pixels a class has; pACC, the share of pixels that are right.
        per_class: by name IoU, ACC (the share of its pixels that were found) and ``pixels``.
        class_names: by class id.
        confusion: (K, K) numbers of pixels: rows are what is there, columns what was said.
        images: pictures.
        ignored: pixels that nobody says anything of.
    """

    figures: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    class_names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    images: int
    ignored: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON, figures with three decimals."""
        return {
            **asdict(self),
            "figures": _rounded(self.figures),
            "per_class": {name: _rounded(row) for name, row in self.per_class.items()},
            "class_names": list(self.class_names),
            "confusion": [list(row) for row in self.confusion],
        }


class SemanticEvaluator:
    """Collects a model's label maps and measures them against what is there.

    Args:
        class_names: of the K classes, by class id.
        ignore_value: value of pixels of the truth that do not count.
    """

    def __init__(self, class_names: Sequence[str], ignore_value: int = IGNORED) -> None:
        if len(set(class_names)) != len(class_names):
            raise EvaluationError("Two classes have one name; give each its own.")
        self._names = tuple(class_names)
        self._ignore_value = ignore_value
        number = len(self._names)
        self._confusion = np.zeros((number, number), dtype=np.int64)
        self._images = 0
        self._ignored = 0

    def add(
        self, prediction: NDArray[Any] | Tensor, truth: NDArray[Any] | Tensor, name: str = ""
    ) -> None:
        """Take the answer to one picture.

        Args:
            prediction: (H, W) class ids, whole numbers, on the CPU.
            truth: (H, W) class ids, or the value that is ignored.
            name: of the picture, for messages.

        Raises:
            EvaluationError: they are of different sizes, are no whole numbers, or have classes that the
                model does not have.
        """
        of = f" of {name}" if name else ""
        found, there = np.asarray(prediction), np.asarray(truth)
        if found.ndim != 2 or found.shape != there.shape:
            raise EvaluationError(
                f"The prediction{of} is of shape {found.shape}, the truth of {there.shape}; both are "
                "(height, width) of the picture."
            )
        if found.dtype.kind not in "iu" or there.dtype.kind not in "iu":
            raise EvaluationError(
                f"The prediction{of} is {found.dtype}, the truth {there.dtype}; both are class ids, "
                "whole numbers."
            )
        number = len(self._names)
        counts = there != self._ignore_value
        found, there = found[counts].astype(np.int64), there[counts].astype(np.int64)
        for values, what in ((there, "truth"), (found, "prediction")):
            if values.size and not 0 <= values.min() <= values.max() < number:
                beyond = np.unique(values[(values < 0) | (values >= number)]).tolist()
                shown = ", ".join(map(str, beyond[:5])) + (", ..." if len(beyond) > 5 else "")
                raise EvaluationError(
                    f"The {what}{of} has the class ids {shown}; the model has {number} classes, 0 to "
                    f"{number - 1}, and {self._ignore_value} is ignored. Map the ids of the label maps to "
                    "the model's.",
                    ids=beyond[:100],
                )
        table = np.bincount(there * number + found, minlength=number * number)
        self._confusion += table.reshape(number, number)
        self._images += 1
        self._ignored += int(counts.size - np.count_nonzero(counts))

    def take(self, other: SemanticEvaluator) -> None:
        """Take what another evaluator of the same classes was given, such as another process's."""
        self._confusion += other._confusion
        self._images += other._images
        self._ignored += other._ignored

    def result(self) -> SemanticResult:
        """Measure all that was added; as Detectron2, classes that are nowhere in the truth have no
        figures and no part in the means.

        Raises:
            EvaluationError: nothing was added.
        """
        if not self._images:
            raise EvaluationError("There is nothing to measure: no picture was added.")
        right = self._confusion.diagonal().astype(np.float64)
        pixels = self._confusion.sum(axis=1)
        union = pixels + self._confusion.sum(axis=0) - right
        is_there = pixels > 0
        iou = 100 * right[is_there] / union[is_there]
        accuracy = 100 * right[is_there] / pixels[is_there]
        total = int(pixels.sum())
        figures: dict[str, float | None] = dict.fromkeys(("mIoU", "fwIoU", "mACC", "pACC"))
        if total:
            figures = {
                "mIoU": float(iou.mean()),
                "fwIoU": float((iou * pixels[is_there]).sum() / total),
                "mACC": float(accuracy.mean()),
                "pACC": float(100 * right.sum() / total),
            }
        rows = iter(zip(iou.tolist(), accuracy.tolist(), strict=True))
        per_class: dict[str, dict[str, float | None]] = {}
        for name, count in zip(self._names, pixels.tolist(), strict=True):
            of_class = next(rows) if count else (None, None)
            per_class[name] = {"IoU": of_class[0], "ACC": of_class[1], "pixels": count}
        return SemanticResult(
            figures=figures,
            per_class=per_class,
            class_names=self._names,
            confusion=tuple(tuple(row) for row in self._confusion.tolist()),
            images=self._images,
            ignored=self._ignored,
        )


def evaluate_semantic(
    predict: Callable[[NDArray[np.uint8]], NDArray[Any] | Tensor],
    dataset: SemanticDataset,
    *,
    ignore_value: int = IGNORED,
    progress: Callable[[int, int], None] | None = None,
) -> SemanticResult:
    """Ask a model for every picture of a data set and measure its answers.

    Args:
        predict: answers a picture, (H, W, 3) uint8 RGB, with (H, W) class ids.
        dataset: the pictures and their label maps.
        ignore_value: see :class:`SemanticEvaluator`.
        progress: called with the number of pictures done and of all, after each.

    Raises:
        EvaluationError: a file cannot be read, or as :class:`SemanticEvaluator`.
    """
    evaluator = SemanticEvaluator(dataset.class_names, ignore_value)
    for done, image in enumerate(dataset.images, start=1):
        pixels = read_picture(image.path)
        truth = image.read_labels((pixels.shape[0], pixels.shape[1]))
        evaluator.add(predict(pixels), truth, image.name)
        if progress is not None:
            progress(done, len(dataset.images))
    return evaluator.result()


def _rounded(figures: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 3) for name, value in figures.items()}
