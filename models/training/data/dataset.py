"""A data set to train on: pictures and what is in them, in the classes of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.training.data.findings import Finding


@dataclass(frozen=True, slots=True)
class TrainingObject:
    """One annotated object.

    Attributes:
        class_id: 0..K-1 in the model's order of classes.
        box: XYXY in pixels of the picture; may stick out of it.
        polygons: flat x, y, x, y, ... of each; None where there are none.
        rle: instead of polygons, COCO's compressed RLE ``{"size": [h, w], "counts": bytes}``.
        keypoints: x, y, v of each, flat; continuous coordinates: half a pixel more than in the file.
        is_crowd: a region of many, or one to be ignored: nothing is learned from it.
        rotated_box: centre x, y, width, height, angle in degrees, where the data says so; ``box`` is then
            the upright one around it.
    """

    class_id: int
    box: tuple[float, float, float, float]
    polygons: tuple[tuple[float, ...], ...] | None = None
    rle: dict[str, Any] | None = None
    keypoints: tuple[float, ...] | None = None
    is_crowd: bool = False
    rotated_box: tuple[float, float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """A picture: its id in the data set, its file, its size in pixels when upright, its objects."""

    id: int
    path: Path
    height: int
    width: int
    objects: tuple[TrainingObject, ...] = ()
    sem_seg_path: Path | None = None


@dataclass(frozen=True)
class TrainingDataset:
    """Pictures and what is in them.

    Attributes:
        name: of the JSON file.
        class_names: of the model, by class id.
        images: ascending by id; those without objects too.
        keypoint_names: of one object, in the order of the data; () where it has no keypoints.
        keypoint_flip_map: pairs of names that change places in a mirror image.
        has_masks, has_keypoints: at least one object has them.
        has_sem_seg: every picture has a map of semantic classes.
        knows_flip_map: False where the data has keypoints and nothing says which of them swap.
        keypoint_skeleton: pairs of names to draw a line between.
        category_ids: of the file, ascending; names by id in ``category_names``.
        category_names: of the file, before the label map.
        findings: what was noticed while reading, errors included: see
            :func:`models.training.data.checks.check_data`, which refuses to train with these.
    """

    name: str
    class_names: tuple[str, ...]
    images: tuple[TrainingImage, ...]
    keypoint_names: tuple[str, ...] = ()
    keypoint_flip_map: tuple[tuple[str, str], ...] = ()
    has_masks: bool = False
    has_keypoints: bool = False
    has_sem_seg: bool = False
    knows_flip_map: bool = True
    keypoint_skeleton: tuple[tuple[str, str], ...] = ()
    category_ids: tuple[int, ...] = ()
    category_names: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @classmethod
    def load(
        cls,
        annotations: str | Path,
        images: str | Path | None = None,
        *,
        class_names: Sequence[str] | None = None,
        label_map: Mapping[str, str] | None = None,
        sem_seg: str | Path | None = None,
    ) -> TrainingDataset:
        """Read a COCO JSON.

        What is wrong with single pictures and objects becomes a finding; pictures are not opened.

        Args:
            annotations: the JSON: boxes XYWH (five numbers are a rotated box, as in Detectron2), polygons,
                RLE, crowd, keypoints.
            images: the folder that ``file_name`` is relative to; None for the one beside the JSON that is
                named like it, without its suffix, or if there is none the JSON's own folder.
            class_names: the model's, by class id; categories are matched by name. None takes the data's
                own, in the order of their ids.
            label_map: names of categories to names of the model's classes, where they differ; several may
                go to one.
            sem_seg: folder of PNGs of one channel, named like the pictures: the class of each pixel, 255
                for none.

        Raises:
            DataError: the JSON cannot be read, lacks something or contradicts itself; it has objects of a
                class that the model does not have; a name leads out of the folder.
        """
        # Here, since the reader makes what this module defines.
        from models.training.data.reading import read_dataset

        return read_dataset(
            Path(annotations),
            Path(images) if images is not None else None,
            class_names=class_names,
            label_map=label_map or {},
            sem_seg=Path(sem_seg) if sem_seg is not None else None,
        )

    def image_counts(self) -> tuple[int, ...]:
        """In how many pictures each class occurs, by class id."""
        counts = [0] * len(self.class_names)
        for image in self.images:
            for class_id in {found.class_id for found in image.objects}:
                counts[class_id] += 1
        return tuple(counts)

    def flip_permutation(self) -> tuple[int, ...] | None:
        """Which keypoint stands where after mirroring: ``mirrored[i] = keypoints[permutation[i]]``.

        None where the data has no keypoints, or nothing says which of them swap.
        """
        if not self.keypoint_names or not self.knows_flip_map:
            return None
        swapped = {a: b for pair in self.keypoint_flip_map for a, b in (pair, pair[::-1])}
        places = {name: index for index, name in enumerate(self.keypoint_names)}
        return tuple(places[swapped.get(name, name)] for name in self.keypoint_names)
