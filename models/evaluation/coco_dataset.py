"""A COCO data set on disk: its JSON, checked as a whole before anything is measured with it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.evaluation.annotations import ground_truth
from models.evaluation.coco_json import (
    SHOWN,
    categories_of,
    entries_of,
    images_folder,
    picture_of,
    require_known,
)
from models.evaluation.errors import EvaluationError
from models.evaluation.files import read_json

MAX_BYTES = 1 << 30
"""Of the JSON: twice that of COCO's training set."""


@dataclass(frozen=True)
class CocoImage:
    """A picture: its id in the data set, its file, its size in pixels."""

    id: int
    path: Path
    height: int
    width: int


@dataclass(frozen=True)
class CocoDataset:
    """Pictures and what is in them.

    Attributes:
        name: of the JSON file.
        images: ascending by id.
        categories: names by id, ascending.
        annotations: in the order of the file; see :func:`models.evaluation.annotations.ground_truth`.
    """

    name: str
    images: tuple[CocoImage, ...]
    categories: dict[int, str]
    annotations: tuple[dict[str, Any], ...]

    @classmethod
    def load(cls, annotations: str | Path, images: str | Path | None = None) -> CocoDataset:
        """Read a COCO JSON and look whether all that it names is there.

        Args:
            annotations: the JSON.
            images: the folder that ``file_name`` is relative to; None for the one beside the JSON that is
                named like it, without its suffix, or if there is none the JSON's own folder.

        Raises:
            EvaluationError: the JSON cannot be read, lacks something or contradicts itself; a file is
                missing, or lies outside of the folder.
        """
        annotations = Path(annotations)
        content = read_json(annotations, max_bytes=MAX_BYTES)
        folder = images_folder(annotations, Path(images) if images is not None else None)
        pictures = _images(entries_of(content, "images"), folder, annotations.name)
        categories = categories_of(entries_of(content, "categories"))
        found = []
        for number, annotation in enumerate(entries_of(content, "annotations"), start=1):
            require_known(
                annotation, number, images=pictures, categories=categories, file=annotations.name
            )
            picture = pictures[annotation["image_id"]]
            found.append(ground_truth(annotation, number, picture.height, picture.width))
        return cls(annotations.name, tuple(pictures.values()), categories, tuple(found))

    def subset(self, max_images: int) -> CocoDataset:
        """The data set of its first ``max_images`` pictures by id; categories stay."""
        if max_images < 1:
            raise EvaluationError(f"A subset has one image or more, not {max_images}.")
        images = self.images[:max_images]
        kept = {image.id for image in images}
        annotations = tuple(a for a in self.annotations if a["image_id"] in kept)
        return replace(self, images=images, annotations=annotations)


def _images(entries: list[dict[str, Any]], folder: Path, name: str) -> dict[int, CocoImage]:
    if not entries:
        raise EvaluationError(f"{name} has no images.")
    images: dict[int, CocoImage] = {}
    missing = []
    for entry in entries:
        image = CocoImage(*picture_of(entry, images, folder))
        if not os.path.isfile(image.path):  # unlike Path.is_file never an error
            missing.append(entry["file_name"][:80])
        images[image.id] = image
    if missing:
        more = ", ..." if len(missing) > SHOWN else ""
        raise EvaluationError(
            f"{len(missing)} of {len(entries)} images of {name} are not in the folder {folder.name}: "
            f"{', '.join(missing[:SHOWN])}{more}. Is it the right folder?",
            missing=missing[:SHOWN],
        )
    return dict(sorted(images.items()))
