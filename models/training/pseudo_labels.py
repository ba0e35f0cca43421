"""What a model that knows the old classes finds in pictures where only new ones are labelled.

Pictures of a new class show old ones too, without labels. To a training they are background, so it
unlearns them. The old model says where they are, and what it is sure of is taught as if labelled:
distillation by hard labels (Lee 2013; for detectors Shmelkov et al. 2017 distil soft ones).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import ConfigError
from models.evaluation import read_picture
from models.evaluation.matching import box_overlaps
from models.evaluation.run_lengths import encode_masks
from models.structures import Boxes, Instances
from models.training.data.dataset import TrainingDataset, TrainingImage, TrainingObject
from models.training.data.errors import DataError
from models.training.saving import write_json

Predict = Callable[[NDArray[np.uint8]], Instances]


@dataclass(frozen=True)
class PseudoLabels:
    """What the old model found.

    Attributes:
        class_names: of the new model, by class id.
        objects: by the id of the picture.
    """

    class_names: tuple[str, ...]
    objects: dict[int, tuple[TrainingObject, ...]]

    def on(self, dataset: TrainingDataset) -> TrainingDataset:
        """The data set with these objects added."""
        images = tuple(
            replace(image, objects=(*image.objects, *self.objects.get(image.id, ())))
            for image in dataset.images
        )
        return replace(dataset, images=images)

    def counts(self) -> dict[str, int]:
        """Objects by the name of their class, the most frequent first."""
        names = (
            self.class_names[entry.class_id] for found in self.objects.values() for entry in found
        )
        return dict(Counter(names).most_common())

    def sentence(self) -> str:
        """For a log."""
        counts = self.counts()
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        return (
            f"The old model labels {sum(counts.values())} objects that the data leaves without a label"
            f"{': ' + told if told else ''}."
        )

    def save(self, path: Path) -> None:
        """Write them as JSON, so that a resumed training learns from the same."""
        found = {str(number): [_as_json(o) for o in some] for number, some in self.objects.items()}
        write_json(path, {"classes": list(self.class_names), "objects": found})

    @classmethod
    def load(cls, path: Path) -> PseudoLabels:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the file is missing or damaged.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            objects = {
                int(number): tuple(_from_json(entry) for entry in some)
                for number, some in content["objects"].items()
            }
            return cls(tuple(content["classes"]), objects)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{path.name} is missing or damaged, so the training cannot go on with what the old model "
                "labelled. Start a new one."
            ) from error


def unlabelled_classes(dataset: TrainingDataset) -> tuple[str, ...]:
    """The classes of the model that no picture of the data set has a label of."""
    counts = dataset.image_counts()
    return tuple(
        name for name, count in zip(dataset.class_names, counts, strict=True) if count == 0
    )


def pseudo_labels(
    dataset: TrainingDataset,
    predict: Predict,
    teacher_names: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    score_threshold: float = 0.5,
    overlap: float = 0.7,
    progress: Callable[[int, int], None] | None = None,
) -> PseudoLabels:
    """Label the old classes of a data set by the old model's answers to its pictures.

    A class with any label in the data, be it one, is left out unless ``classes`` names it: the data is taken
    for labelled wherever it labels at all. Name the class where only some of its objects are labelled;
    those are kept, and what overlaps them is not labelled twice.

    Args:
        dataset: in the classes of the new model.
        predict: the old model: (H, W, 3) uint8 RGB -> instances in pixels of the picture.
        teacher_names: its classes by id; they are matched by name.
        classes: which it labels, by name; None: those without any label in the data.
        score_threshold: what scores less is not labelled.
        overlap: IoU with a labelled box from which on the object is taken for that one.
        progress: called with the number of pictures done and of all.

    Raises:
        ConfigError: the old model knows none of the classes.
        EvaluationError: a picture cannot be read.
    """
    wanted = set(classes if classes is not None else unlabelled_classes(dataset))
    ids = {name: number for number, name in enumerate(dataset.class_names)}
    taught = {
        number: ids[name]
        for number, name in enumerate(teacher_names)
        if name in wanted and name in ids
    }
    if not taught:
        lacking = ", ".join(sorted(wanted)) or "none: every class of the model has labels"
        raise ConfigError(
            f"The old model has nothing to label. Its classes are {', '.join(teacher_names)}; the data "
            f"has no label of {lacking}. Leave the teacher out, or give the names that both share."
        )
    objects: dict[int, tuple[TrainingObject, ...]] = {}
    for done, image in enumerate(dataset.images, start=1):
        found = predict(read_picture(image.path, (image.height, image.width))).to("cpu")
        sure = found[_sure(found, image, taught, score_threshold, overlap)]
        added = _objects(sure, taught, dataset)
        if added:
            objects[image.id] = added
        if progress is not None:
            progress(done, len(dataset.images))
    return PseudoLabels(dataset.class_names, objects)


def _sure(
    found: Instances,
    image: TrainingImage,
    taught: dict[int, int],
    score_threshold: float,
    overlap: float,
) -> Tensor:
    """(R,) bool: of a class that is taught, with a good score, and nothing that has a label."""
    sure: Tensor = (found.scores >= score_threshold) & torch.isin(
        found.pred_classes, torch.tensor(list(taught))
    )
    labelled = [entry.box for entry in image.objects if not entry.is_crowd]
    if labelled and len(found):
        known = Boxes(torch.tensor(labelled))
        sure &= box_overlaps(found.pred_boxes, known).max(dim=1).values < overlap
    return sure


def _objects(
    found: Instances, taught: dict[int, int], dataset: TrainingDataset
) -> tuple[TrainingObject, ...]:
    masks: list[dict[str, Any]] | None = None
    if dataset.has_masks and found.has("pred_masks"):
        masks = [_as_bytes(rle) for rle in encode_masks(found)]
    objects = []
    for i in range(len(found)):
        keypoints = None
        if dataset.has_keypoints and found.has("pred_keypoints"):
            points: Tensor = found.pred_keypoints[i].clone()
            points[:, 2] = 2.0  # the third number is a score, here it says that it is visible
            keypoints = tuple(points.flatten().tolist())
        x1, y1, x2, y2 = found.pred_boxes.tensor[i].tolist()
        objects.append(
            TrainingObject(
                class_id=taught[int(found.pred_classes[i])],
                box=(x1, y1, x2, y2),
                rle=masks[i] if masks is not None else None,
                keypoints=keypoints,
            )
        )
    return tuple(o for o in objects if o.box[2] > o.box[0] and o.box[3] > o.box[1])


def _as_json(entry: TrainingObject) -> dict[str, Any]:
    rle = None if entry.rle is None else {**entry.rle, "counts": entry.rle["counts"].decode()}
    return {"class": entry.class_id, "box": entry.box, "rle": rle, "keypoints": entry.keypoints}


def _from_json(content: dict[str, Any]) -> TrainingObject:
    x1, y1, x2, y2 = content["box"]
    rle, keypoints = content["rle"], content["keypoints"]
    return TrainingObject(
        class_id=int(content["class"]),
        box=(x1, y1, x2, y2),
        rle=None if rle is None else _as_bytes(rle),
        keypoints=None if keypoints is None else tuple(keypoints),
    )


def _as_bytes(rle: Mapping[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    return {**rle, "counts": counts.encode() if isinstance(counts, str) else counts}
