"""A semantic data set on disk: pictures, and beside each a PNG with the class of every pixel."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.evaluation.coco_json import SHOWN
from models.evaluation.errors import EvaluationError
from models.evaluation.files import path_inside
from models.evaluation.label_maps import read_class_ids

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class SemanticImage:
    """A picture and its label map, which have one name but for the suffix."""

    name: str
    path: Path
    labels: Path

    def read_labels(self, size: tuple[int, int]) -> NDArray[np.int64]:
        """(H, W) class ids; ``size`` is the picture's (height, width). See :func:`read_class_ids`."""
        return read_class_ids(self.labels, size)


@dataclass(frozen=True)
class SemanticDataset:
    """Pictures and the class of each of their pixels.

    Attributes:
        name: of the folder of label maps.
        class_names: by class id; the values of the label maps are these ids.
        images: by name.
    """

    name: str
    class_names: tuple[str, ...]
    images: tuple[SemanticImage, ...]

    @classmethod
    def load(
        cls,
        labels: str | Path,
        images: str | Path,
        *,
        class_names: tuple[str, ...] | list[str],
    ) -> SemanticDataset:
        """Find the picture of each label map. What is in the maps is looked at when they are read.

        Args:
            labels: folder of PNGs; subfolders are not looked into.
            images: folder of pictures; ``a.png`` of the labels belongs to ``a.jpg`` or the like here.
            class_names: see :class:`SemanticDataset`.

        Raises:
            EvaluationError: a folder is missing, there is no label map, or one has no picture or two.
        """
        labels, images = Path(labels), Path(images)
        for folder, what in ((labels, "label maps"), (images, "images")):
            if not folder.is_dir():
                raise EvaluationError(f"There is no folder of {what} {folder.name}.")
        if labels.resolve() == images.resolve():
            raise EvaluationError(
                f"The label maps and the images are one folder, {labels.name}; give each its own."
            )
        maps = sorted(entry for entry in os.listdir(labels) if entry.lower().endswith(".png"))
        if not maps:
            raise EvaluationError(f"{labels.name} has no label maps: no file ends with .png.")
        pictures: dict[str, list[str]] = {}
        for entry in sorted(os.listdir(images)):
            stem, suffix = os.path.splitext(entry)
            if suffix.lower() in _PICTURES:
                pictures.setdefault(stem, []).append(entry)
        stems = [os.path.splitext(entry)[0] for entry in maps]
        missing = [stem for stem in stems if stem not in pictures]
        if missing:
            more = ", ..." if len(missing) > SHOWN else ""
            raise EvaluationError(
                f"{len(missing)} of {len(maps)} label maps have no picture of their name in "
                f"{images.name}: {', '.join(missing[:SHOWN])}{more}. Is it the right folder?",
                missing=missing[:SHOWN],
            )
        found = []
        for entry, stem in zip(maps, stems, strict=True):
            if len(pictures[stem]) > 1:
                raise EvaluationError(
                    f"{images.name} has two pictures {stem}: {', '.join(pictures[stem])}. Which belongs "
                    f"to the label map {entry} cannot be told; take one away."
                )
            picture = path_inside(images.resolve(), pictures[stem][0])
            found.append(SemanticImage(stem, picture, path_inside(labels.resolve(), entry)))
        return cls(labels.name, tuple(class_names), tuple(found))

    def subset(self, max_images: int) -> SemanticDataset:
        """The data set of its first ``max_images`` pictures by name."""
        if max_images < 1:
            raise EvaluationError(f"A subset has one image or more, not {max_images}.")
        return replace(self, images=self.images[:max_images])
