"""The parts of a COCO JSON that reading it to measure and reading it to train share."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

from models.evaluation.errors import EvaluationError
from models.evaluation.files import path_inside, shown

MAX_SIDE = 100_000
"""Pixels: COCO's evaluation knows no larger pictures."""

SHOWN = 5
"""Files, classes and the like that a message lists."""


def images_folder(annotations: Path, images: Path | None) -> Path:
    """The folder that ``file_name`` is relative to, resolved.

    Args:
        annotations: the JSON.
        images: the folder; None for the one beside the JSON that is named like it, without its suffix,
            or if there is none the JSON's own folder.

    Raises:
        EvaluationError: ``images`` is no folder.
    """
    if images is None:
        beside = annotations.with_suffix("")
        images = beside if beside.is_dir() else annotations.parent
    elif not images.is_dir():
        raise EvaluationError(f"There is no folder of images {images.name}.")
    return images.resolve()


def entries_of(content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of objects that a COCO file has under ``key``."""
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise EvaluationError(
            f"{key} is no list of objects in the JSON; a COCO file has images, annotations and categories."
        )
    return entries


def picture_of(
    entry: dict[str, Any], known: Container[int], folder: Path
) -> tuple[int, Path, int, int]:
    """Id, file, height and width of an entry of ``images``; whether the file is there is not looked at.

    Args:
        entry: of the JSON.
        known: ids that are taken.
        folder: of the pictures, resolved.

    Raises:
        EvaluationError: the id is none or taken, the size is none, the name leads out of the folder.
    """
    found = _new_id(entry, known, "An image")
    path = path_inside(folder, entry.get("file_name"))
    for side in (entry.get("height"), entry.get("width")):
        if type(side) is not int or not 1 <= side <= MAX_SIDE:
            raise EvaluationError(
                f"Image {found} has no height and width of 1 to {MAX_SIDE} pixels: {shown(side)}."
            )
    return found, path, entry["height"], entry["width"]


def categories_of(entries: list[dict[str, Any]]) -> dict[int, str]:
    """Names by id, ascending, of the entries of ``categories``."""
    categories: dict[int, str] = {}
    for entry in entries:
        found = _new_id(entry, categories, "A category")
        name = entry.get("name")
        if not isinstance(name, str) or name in categories.values():
            raise EvaluationError(f"Category {found} has no name of its own: {shown(name)}.")
        categories[found] = name
    return dict(sorted(categories.items()))


def require_known(
    annotation: dict[str, Any],
    number: int,
    *,
    images: Container[int],
    categories: Container[int],
    file: str,
) -> None:
    """Look whether the image and the category of an annotation are in the file.

    Args:
        annotation: of the JSON.
        number: its place there, from 1.
        images, categories: the ids that are there.
        file: name of the JSON, for the message.

    Raises:
        EvaluationError: one of them is not.
    """
    for key, known in (("image_id", images), ("category_id", categories)):
        # Compared by type too: to Python true and 1.0 are 1.
        if type(annotation.get(key)) is not int or annotation[key] not in known:
            raise EvaluationError(
                f"Annotation {shown(annotation.get('id', number))} has the {key} "
                f"{shown(annotation.get(key))}, which {file} does not define."
            )


def _new_id(entry: dict[str, Any], known: Container[int], kind: str) -> int:
    found = entry.get("id")
    if type(found) is not int:
        raise EvaluationError(f"{kind} has the id {shown(found)}; it is a whole number.")
    if found in known:
        raise EvaluationError(f"{kind} id {found} is there twice.")
    return found
