"""A COCO data set on disk: its JSON, checked as a whole before anything is measured with it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.evaluation.annotations import ground_truth
from models.evaluation.errors import EvaluationError
from models.evaluation.files import path_inside, read_json, shown

MAX_BYTES = 1 << 30
"""Of the JSON: twice that of COCO's training set."""

MAX_SIDE = 100_000
"""Pixels: COCO's evaluation knows no larger pictures."""

SHOWN = 5
"""Files, classes and the like that a message lists."""


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
        images = Path(images) if images is not None else None
        content = read_json(annotations, max_bytes=MAX_BYTES)
        if images is None:
            beside = annotations.with_suffix("")
            images = beside if beside.is_dir() else annotations.parent
        elif not images.is_dir():
            raise EvaluationError(f"There is no folder of images {images.name}.")
        pictures = _images(_objects(content, "images"), images.resolve(), annotations.name)
        categories = _categories(_objects(content, "categories"))
        found = []
        for number, annotation in enumerate(_objects(content, "annotations"), start=1):
            for key, known in (("image_id", pictures), ("category_id", categories)):
                # Compared by type too: to Python true and 1.0 are 1.
                if type(annotation.get(key)) is not int or annotation[key] not in known:
                    raise EvaluationError(
                        f"Annotation {shown(annotation.get('id', number))} has the {key} "
                        f"{shown(annotation.get(key))}, which {annotations.name} does not define."
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


def _objects(content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise EvaluationError(
            f"{key} is no list of objects in the JSON; a COCO file has images, annotations and categories."
        )
    return entries


def _new_id(entry: dict[str, Any], known: dict[int, Any], kind: str) -> int:
    found = entry.get("id")
    if type(found) is not int:
        raise EvaluationError(f"{kind} has the id {shown(found)}; it is a whole number.")
    if found in known:
        raise EvaluationError(f"{kind} id {found} is there twice.")
    return found


def _images(entries: list[dict[str, Any]], folder: Path, name: str) -> dict[int, CocoImage]:
    if not entries:
        raise EvaluationError(f"{name} has no images.")
    images: dict[int, CocoImage] = {}
    missing = []
    for entry in entries:
        found = _new_id(entry, images, "An image")
        path = path_inside(folder, entry.get("file_name"))
        if not os.path.isfile(path):  # unlike Path.is_file never an error
            missing.append(entry["file_name"][:80])
        for side in (entry.get("height"), entry.get("width")):
            if type(side) is not int or not 1 <= side <= MAX_SIDE:
                raise EvaluationError(
                    f"Image {found} has no height and width of 1 to {MAX_SIDE} pixels: {shown(side)}."
                )
        images[found] = CocoImage(found, path, entry["height"], entry["width"])
    if missing:
        more = ", ..." if len(missing) > SHOWN else ""
        raise EvaluationError(
            f"{len(missing)} of {len(entries)} images of {name} are not in the folder {folder.name}: "
            f"{', '.join(missing[:SHOWN])}{more}. Is it the right folder?",
            missing=missing[:SHOWN],
        )
    return dict(sorted(images.items()))


def _categories(entries: list[dict[str, Any]]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for entry in entries:
        found = _new_id(entry, categories, "A category")
        name = entry.get("name")
        if not isinstance(name, str) or name in categories.values():
            raise EvaluationError(f"Category {found} has no name of its own: {shown(name)}.")
        categories[found] = name
    return dict(sorted(categories.items()))
