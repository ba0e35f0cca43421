"""From a COCO JSON to a training data set: what contradicts itself is refused, the rest is counted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.evaluation.coco_json import (
    categories_of,
    entries_of,
    images_folder,
    picture_of,
    require_known,
)
from models.evaluation.errors import EvaluationError
from models.evaluation.files import read_json, shown
from models.training.data.classes import ClassMap
from models.training.data.dataset import TrainingDataset, TrainingImage, TrainingObject
from models.training.data.errors import DataError
from models.training.data.findings import Finding, FindingCounter
from models.training.data.keypoint_schema import KeypointSchema, read_keypoint_schema
from models.training.data.objects import read_object

MAX_BYTES = 4 << 30
"""Of the JSON: LVIS's training set takes one GiB."""

FILE_MISSING = Finding(
    "error",
    "file-missing",
    "Pictures are not in the folder.",
    "Is it the right folder (--images)? Names in the JSON are relative to it.",
)
ID_DUPLICATE = Finding(
    "error",
    "id-duplicate",
    "Annotations share an id, so the file is two that were joined, or broken.",
    "Give each annotation an id of its own.",
)
KEYPOINTS_COUNT = Finding(
    "error",
    "keypoints-count",
    "Objects have another number of keypoints than their data set.",
    "Give each object all of them, those that are not there as 0, 0, 0.",
)
SEM_SEG_MISSING = Finding(
    "error",
    "sem-seg-missing",
    "Pictures have no map of semantic classes.",
    "Put one for each into the folder: a PNG named like the picture.",
)


def read_dataset(
    annotations: Path,
    images: Path | None,
    *,
    class_names: Sequence[str] | None,
    label_map: Mapping[str, str],
    sem_seg: Path | None,
) -> TrainingDataset:
    """See :meth:`TrainingDataset.load`."""
    try:
        content = read_json(annotations, max_bytes=MAX_BYTES)
        folder = images_folder(annotations, images)
        pictures = _pictures(content, folder, annotations.name)
        categories = categories_of(entries_of(content, "categories"))
        entries = entries_of(content, "annotations")
        for number, annotation in enumerate(entries, start=1):
            require_known(
                annotation, number, images=pictures, categories=categories, file=annotations.name
            )
    except EvaluationError as error:  # the reading that is shared with evaluation raises its own
        raise DataError(error.message, **error.details) from error
    counter = FindingCounter()
    classes = ClassMap.between(
        categories,
        {annotation["category_id"] for annotation in entries},
        class_names=class_names,
        label_map=label_map,
        file=annotations.name,
    )
    _count_files(pictures, counter)
    _count_ids(entries, counter)
    objects = _objects_(entries, pictures, classes, counter)
    schema = _keypoints(content["categories"], objects, counter, pictures)
    names = {entry["id"]: entry["file_name"] for entry in content["images"]}
    maps = _sem_seg_files(names, sem_seg, counter) if sem_seg is not None else {}
    found = tuple(
        replace(image, objects=tuple(objects.get(i, ())), sem_seg_path=maps.get(i))
        for i, image in pictures.items()
    )
    everything = [thing for things in objects.values() for thing in things]
    return TrainingDataset(
        name=annotations.name,
        class_names=classes.class_names,
        images=found,
        keypoint_names=schema.names,
        keypoint_flip_map=schema.flip_map,
        has_masks=any(thing.polygons or thing.rle for thing in everything),
        has_keypoints=any(thing.keypoints for thing in everything),
        has_sem_seg=len(maps) == len(found),
        knows_flip_map=schema.knows_flip_map,
        keypoint_skeleton=schema.skeleton,
        category_ids=tuple(categories),
        category_names=tuple(categories.values()),
        findings=(*classes.findings, *counter.findings()),
    )


def _pictures(content: dict[str, Any], folder: Path, name: str) -> dict[int, TrainingImage]:
    entries = entries_of(content, "images")
    if not entries:
        raise DataError(f"{name} has no images.")
    pictures: dict[int, TrainingImage] = {}
    for entry in entries:
        found, path, height, width = picture_of(entry, pictures, folder)
        pictures[found] = TrainingImage(found, path, height, width)
    return dict(sorted(pictures.items()))


def _count_files(pictures: Mapping[int, TrainingImage], counter: FindingCounter) -> None:
    for image in pictures.values():
        if not os.path.isfile(image.path):  # unlike Path.is_file never an error
            counter.add(FILE_MISSING, image.path.name[:80])


def _count_ids(entries: Sequence[dict[str, Any]], counter: FindingCounter) -> None:
    seen = set()
    for entry in entries:
        # Some tools write none, which is no harm; a list could not be looked up.
        found = entry.get("id")
        key = found if isinstance(found, int | str) else None
        if key is not None and key in seen:
            counter.add(ID_DUPLICATE, shown(key))
        seen.add(key)


def _objects_(
    entries: list[dict[str, Any]],
    pictures: Mapping[int, TrainingImage],
    classes: ClassMap,
    counter: FindingCounter,
) -> dict[int, list[TrainingObject]]:
    """The objects by the id of their picture; ``entries`` are empty afterwards."""
    objects: dict[int, list[TrainingObject]] = {}
    for number, annotation in enumerate(entries, start=1):
        image = pictures[annotation["image_id"]]
        class_id = classes.class_ids[annotation["category_id"]]
        found = read_object(annotation, number, image, class_id, counter)
        if found is not None:
            objects.setdefault(image.id, []).append(found)
        entries[number - 1] = {}  # a large file would be in memory twice
    return objects


def _keypoints(
    categories: Sequence[dict[str, Any]],
    objects: Mapping[int, list[TrainingObject]],
    counter: FindingCounter,
    pictures: Mapping[int, TrainingImage],
) -> KeypointSchema:
    """The schema; objects whose keypoints are not so many are counted."""
    lengths = {
        (image_id, len(thing.keypoints) // 3)
        for image_id, things in objects.items()
        for thing in things
        if thing.keypoints
    }
    first = min(lengths)[1] if lengths else None
    schema = read_keypoint_schema(categories, first)
    for image_id, length in sorted(lengths):
        if length != len(schema.names):
            name = pictures[image_id].path.name
            counter.add(KEYPOINTS_COUNT, f"{name}: {length} instead of {len(schema.names)}")
    return schema


def _sem_seg_files(
    names: Mapping[int, str], sem_seg: Path, counter: FindingCounter
) -> dict[int, Path]:
    """The map of each picture that has one, by id: in the same folders as pictures, or all in one.

    Args:
        names: of the pictures' files by id, relative to their folder and known to stay in it.
        sem_seg: folder of the maps.
        counter: takes the pictures that have none.
    """
    if not sem_seg.is_dir():
        raise DataError(f"There is no folder of semantic maps {sem_seg.name}.")
    maps = {}
    for i, name in names.items():
        png = Path(name).with_suffix(".png")
        found = next((p for p in (sem_seg / png, sem_seg / png.name) if os.path.isfile(p)), None)
        if found is None:
            counter.add(SEM_SEG_MISSING, name[:80])
        else:
            maps[i] = found
    return maps
