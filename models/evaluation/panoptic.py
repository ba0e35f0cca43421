"""Panoptic quality (Kirillov et al. 2019): how well a model tells things apart and stuff from stuff.

PQ = SQ x RQ: the mean IoU of segments that are matched (SQ), times the F1 of matching them (RQ). A
segment of the answer and one of the truth match if they are of one category and their IoU is over 0.5,
which leaves at most one for each. Void pixels and crowd regions are ignored as in COCO's challenge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.evaluation.errors import EvaluationError
from models.evaluation.files import read_picture
from models.evaluation.panoptic_classes import PanopticClasses
from models.evaluation.panoptic_dataset import PanopticDataset, PanopticImage

Panoptic = tuple[NDArray[Any] | Tensor, Sequence[dict[str, Any]]]
"""A model's answer: (H, W) ids of segments, 0 for none, and what they are: ``id``, ``isthing`` and
``category_id``, the model's class of things or of stuff."""

_MATCH = 0.5
_GROUPS = ("all", "things", "stuff")


@dataclass
class _Tally:
    """Of one category: segments that match and the sum of their IoU, false ones, missed ones."""

    iou: float = 0.0
    matched: int = 0
    false: int = 0
    missed: int = 0

    def figures(self) -> dict[str, float | None]:
        """PQ, SQ and RQ, 0 to 100, and the counts; None where there is no segment at all."""
        weight = self.matched + (self.false + self.missed) / 2
        return {
            "PQ": 100 * self.iou / weight if weight else None,
            "SQ": (100 * self.iou / self.matched if self.matched else 0.0) if weight else None,
            "RQ": 100 * self.matched / weight if weight else None,
            "TP": self.matched,
            "FP": self.false,
            "FN": self.missed,
        }


@dataclass(frozen=True)
class PanopticResult:
    """What was measured; figures are 0 to 100, None where there is nothing to measure them by.

    Attributes:
        figures: PQ, SQ and RQ of "all", "things" and "stuff": means over the ``classes`` that have a
            segment in the truth or in an answer.
        per_class: by the category's name PQ, SQ, RQ and the numbers of segments that match (TP), are
            false (FP) or missed (FN).
        dataset: its name.
        images: pictures.
    """

    figures: dict[str, dict[str, float | None]]
    per_class: dict[str, dict[str, float | None]]
    dataset: str
    images: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON, figures with three decimals."""
        return asdict(self) | {
            key: {
                name: {n: None if v is None else round(v, 3) for n, v in row.items()}
                for name, row in table.items()
            }
            for key, table in (("figures", self.figures), ("per_class", self.per_class))
        }


class PanopticEvaluator:
    """Collects a model's panoptic maps and measures them.

    Args:
        dataset: what is there.
        thing_names: of the model's things, by class id.
        stuff_names: of the classes of its semantic head; the first one stands for all things and is no
            category.

    Raises:
        EvaluationError: names and categories do not fit.
    """

    def __init__(
        self, dataset: PanopticDataset, thing_names: Sequence[str], stuff_names: Sequence[str]
    ) -> None:
        self._dataset = dataset
        self._classes = PanopticClasses.between(dataset, thing_names, stuff_names)
        self._images = {image.id: image for image in dataset.images}
        self._tallies = {category: _Tally() for category in dataset.categories}
        self._seen: set[int] = set()

    def add(self, image_id: int, answer: Panoptic) -> None:
        """Take the answer to one picture and compare it with its map.

        Args:
            image_id: of the data set.
            answer: on the CPU, in pixels of the picture.

        Raises:
            EvaluationError: the picture is unknown or was added before; the answer is of another size
                or does not say what its segments are; the map of the truth cannot be read.
        """
        if image_id not in self._images or image_id in self._seen:
            what = "was added before" if image_id in self._seen else "is not in the data set"
            raise EvaluationError(f"Image {image_id} {what}.")
        image = self._images[image_id]
        ids, segments = np.asarray(answer[0]), answer[1]
        if ids.shape != (image.height, image.width) or ids.dtype.kind not in "iu":
            raise EvaluationError(
                f"The answer to image {image_id} is {ids.dtype} of shape {ids.shape}; it has a whole "
                f"number for each of {image.height}x{image.width} pixels."
            )
        categories = {int(s["id"]): self._classes.category(s) for s in segments}
        if 0 in categories or len(categories) != len(segments):
            raise EvaluationError(
                f"The answer to image {image_id} has two segments of one id, or one of id 0, which is "
                "no segment."
            )
        self._compare(image, ids, categories)
        self._seen.add(image_id)

    def _compare(
        self, image: PanopticImage, ids: NDArray[Any], categories: dict[int, int | None]
    ) -> None:
        truth = sorted(image.segments, key=lambda segment: segment.id)
        # Row and column 0 of the table are what belongs to no segment.
        rows = _places(
            image.read_map(), [segment.id for segment in truth], image.map.name, "the JSON"
        )
        found = sorted(categories)
        answer = f"The answer to image {image.id}"
        columns = _places(ids, found, answer, "its list of segments")
        shape = (len(truth) + 1, len(found) + 1)
        table = np.bincount(
            (rows * shape[1] + columns).ravel(), minlength=shape[0] * shape[1]
        ).reshape(shape)
        of_truth, of_found = table.sum(axis=1), table.sum(axis=0)
        if empty := [i for i, area in zip(found, of_found[1:].tolist(), strict=True) if not area]:
            raise EvaluationError(f"{answer} lists the segment {empty[0]}, which has no pixel.")

        true_categories = np.array([0] + [segment.category_id for segment in truth])
        crowd = np.array([False] + [segment.is_crowd for segment in truth])
        # Segments of classes that the data set does not know have no category and are left out.
        found_categories = np.array(
            [-1] + [-1 if categories[i] is None else categories[i] for i in found]
        )
        same = true_categories[:, None] == found_categories[None]
        same[0] = False
        # Void pixels are nobody's: they do not make the union larger.
        union = of_truth[:, None] + of_found[None] - table - table[:1]
        iou = np.where(same & ~crowd[:, None], table / np.maximum(union, 1), 0.0)
        is_match = iou > _MATCH
        for i, j in np.argwhere(is_match).tolist():
            tally = self._tallies[int(true_categories[i])]
            tally.matched += 1
            tally.iou += float(iou[i, j])
        missed = ~is_match.any(axis=1) & ~crowd
        missed[0] = False
        # What lies mostly on void or on a crowd region of its category is not false.
        on_ignored = table[0] + (table * (same & crowd[:, None])).sum(axis=0)
        false = ~is_match.any(axis=0) & (found_categories >= 0)
        false &= on_ignored <= _MATCH * of_found
        for category in true_categories[missed].tolist():
            self._tallies[category].missed += 1
        for category in found_categories[false].tolist():
            self._tallies[category].false += 1

    def result(self) -> PanopticResult:
        """Measure all that was added.

        Raises:
            EvaluationError: pictures of the data set were not added.
        """
        total = len(self._images)
        if len(self._seen) < total:
            raise EvaluationError(
                f"{total - len(self._seen)} of {total} images have no answer; add one without "
                "segments for a picture in which nothing was found."
            )
        rows = {category: tally.figures() for category, tally in self._tallies.items()}
        things = self._dataset.things
        groups: dict[str, Iterable[int]] = {
            "all": rows,
            "things": [category for category in rows if category in things],
            "stuff": [category for category in rows if category not in things],
        }
        return PanopticResult(
            figures={name: _means([rows[i] for i in groups[name]]) for name in _GROUPS},
            per_class={self._dataset.categories[i]: row for i, row in rows.items()},
            dataset=self._dataset.name,
            images=total,
        )


def _places(ids: NDArray[Any], known: list[int], name: str, lacking: str) -> NDArray[np.int64]:
    """Place of each pixel's id among ``known``, which ascends, from 1 on; 0 where the id is 0."""
    table = np.array([0, *known], dtype=np.int64)
    places = np.searchsorted(table, ids)
    fits = table[np.minimum(places, len(known))] == ids
    if not fits.all():
        raise EvaluationError(
            f"{name} has the segment {int(ids[~fits][0])}, which {lacking} does not know."
        )
    return places


def _means(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    there = [row for row in rows if row["PQ"] is not None]
    means: dict[str, float | None] = {}
    for figure in ("PQ", "SQ", "RQ"):
        values = [value for row in there if (value := row[figure]) is not None]
        means[figure] = sum(values) / len(values) if values else None
    return means | {"classes": len(there)}


def evaluate_panoptic(
    predict: Callable[[NDArray[np.uint8]], Panoptic],
    dataset: PanopticDataset,
    thing_names: Sequence[str],
    stuff_names: Sequence[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> PanopticResult:
    """Ask a model for every picture of a data set and measure its answers.

    Args:
        predict: answers a picture, (H, W, 3) uint8 RGB; ``panoptic_seg`` of a
            :class:`models.PanopticFPN` does.
        dataset, thing_names, stuff_names: see :class:`PanopticEvaluator`.
        progress: called with the number of pictures done and of all, after each.

    Raises:
        EvaluationError: a file cannot be read, or as :class:`PanopticEvaluator`.
    """
    evaluator = PanopticEvaluator(dataset, thing_names, stuff_names)
    for done, image in enumerate(dataset.images, start=1):
        evaluator.add(image.id, predict(read_picture(image.path, (image.height, image.width))))
        if progress is not None:
            progress(done, len(dataset.images))
    return evaluator.result()
