"""A panoptic data set in COCO's format: a JSON, pictures, and for each a PNG with ids of segments."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.coco_json import (
    SHOWN,
    categories_of,
    entries_of,
    images_folder,
    picture_of,
)
from models.evaluation.errors import EvaluationError
from models.evaluation.files import path_inside, read_json, shown
from models.evaluation.label_maps import read_segment_ids

MAX_BYTES = 1 << 30
"""Of the JSON: COCO's training set takes a third."""

_MOST_ID = (1 << 24) - 1


@dataclass(frozen=True)
class PanopticSegment:
    """A thing or a region of stuff: its id in the PNG, its category, whether it is many in one."""

    id: int
    category_id: int
    is_crowd: bool


@dataclass(frozen=True)
class PanopticImage:
    """A picture: its id, its file, its size in pixels, its map and what the segments there are."""

    id: int
    path: Path
    height: int
    width: int
    map: Path
    segments: tuple[PanopticSegment, ...]

    def read_map(self) -> NDArray[np.int64]:
        """(H, W) segment ids, 0 for void.

        Raises:
            EvaluationError: the PNG cannot be read, or is of another size than the picture.
        """
        return read_segment_ids(self.map, (self.height, self.width))


@dataclass(frozen=True)
class PanopticDataset:
    """Pictures and what each of their pixels belongs to.

    Attributes:
        name: of the JSON file.
        images: ascending by id.
        categories: names by id, ascending.
        things: ids of the categories whose instances are told apart; the others are stuff.
    """

    name: str
    images: tuple[PanopticImage, ...]
    categories: dict[int, str]
    things: frozenset[int]

    @classmethod
    def load(
        cls,
        annotations: str | Path,
        maps: str | Path | None = None,
        images: str | Path | None = None,
    ) -> PanopticDataset:
        """Read a panoptic JSON and look whether all files that it names are there.

        Args:
            annotations: the JSON.
            maps: folder of the PNGs; None for the one beside the JSON that is named like it, without its
                suffix (as COCO has ``panoptic_val2017``).
            images: folder of the pictures; None for the JSON's own.

        Raises:
            EvaluationError: the JSON cannot be read, lacks something or contradicts itself; a file is
                missing, or lies outside of its folder.
        """
        annotations = Path(annotations)
        content = read_json(annotations, max_bytes=MAX_BYTES)
        name = annotations.name
        map_folder = Path(maps) if maps is not None else annotations.with_suffix("")
        if not map_folder.is_dir():
            raise EvaluationError(f"There is no folder of panoptic maps {map_folder.name}.")
        picture_folder = images_folder(
            annotations, Path(images) if images is not None else annotations.parent
        )
        categories, things = _categories(entries_of(content, "categories"))
        pictures: dict[int, tuple[int, Path, int, int]] = {}
        for entry in entries_of(content, "images"):
            picture = picture_of(entry, pictures, picture_folder)
            pictures[picture[0]] = picture
        if not pictures:
            raise EvaluationError(f"{name} has no images.")
        found: dict[int, PanopticImage] = {}
        for entry in entries_of(content, "annotations"):
            image_id = entry.get("image_id")
            if type(image_id) is not int or image_id not in pictures:
                raise EvaluationError(
                    f"An annotation has the image_id {shown(image_id)}, which {name} does not define."
                )
            if image_id in found:
                raise EvaluationError(
                    f"Image {image_id} has two annotations; a picture has one map."
                )
            found[image_id] = PanopticImage(
                *pictures[image_id],
                map=path_inside(map_folder.resolve(), entry.get("file_name")),
                segments=_segments(entry, f"The annotation of image {image_id}", categories),
            )
        if lacking := sorted(pictures.keys() - found.keys()):
            raise EvaluationError(
                f"{len(lacking)} of {len(pictures)} images of {name} have no annotation: "
                f"{', '.join(map(str, lacking[:SHOWN]))}{', ...' if len(lacking) > SHOWN else ''}."
            )
        ordered = tuple(found[i] for i in sorted(found))
        _require_files([image.path for image in ordered], "images", picture_folder, name)
        _require_files([image.map for image in ordered], "panoptic maps", map_folder, name)
        return cls(name, ordered, categories, things)

    def subset(self, max_images: int) -> PanopticDataset:
        """The data set of its first ``max_images`` pictures by id; categories stay."""
        if max_images < 1:
            raise EvaluationError(f"A subset has one image or more, not {max_images}.")
        return replace(self, images=self.images[:max_images])


def _categories(entries: list[dict[str, Any]]) -> tuple[dict[int, str], frozenset[int]]:
    categories = categories_of(entries)
    for entry in entries:
        if entry.get("isthing") not in (0, 1):
            raise EvaluationError(
                f"Category {entry['id']} has isthing {shown(entry.get('isthing'))}; it is 1 for things "
                "and 0 for stuff. Is it a JSON of panoptic segmentation?"
            )
    return categories, frozenset(entry["id"] for entry in entries if entry["isthing"])


def _segments(
    annotation: dict[str, Any], name: str, categories: dict[int, str]
) -> tuple[PanopticSegment, ...]:
    entries = annotation.get("segments_info")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise EvaluationError(
            f"{name} has no list segments_info; COCO's panoptic format says there what the ids are."
        )
    segments: dict[int, PanopticSegment] = {}
    for entry in entries:
        found, category, crowd = (
            entry.get("id"),
            entry.get("category_id"),
            entry.get("iscrowd", 0),
        )
        if type(found) is not int or not 1 <= found <= _MOST_ID or found in segments:
            raise EvaluationError(
                f"{name} has the segment id {shown(found)}; ids are 1 to {_MOST_ID}, each once."
            )
        if type(category) is not int or category not in categories:
            raise EvaluationError(
                f"{name} has the category_id {shown(category)}, which the JSON does not define."
            )
        if crowd not in (0, 1):
            raise EvaluationError(f"{name} has iscrowd {shown(crowd)}; it is 0 or 1.")
        segments[found] = PanopticSegment(found, category, bool(crowd))
    return tuple(segments.values())


def _require_files(paths: list[Path], what: str, folder: Path, name: str) -> None:
    missing = [path.name for path in paths if not os.path.isfile(path)]
    if missing:
        more = ", ..." if len(missing) > SHOWN else ""
        raise EvaluationError(
            f"{len(missing)} of {len(paths)} {what} of {name} are not in the folder {folder.name}: "
            f"{', '.join(missing[:SHOWN])}{more}. Is it the right folder?",
            missing=missing[:SHOWN],
        )
