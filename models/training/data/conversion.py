"""A data set of another format on its way to COCO JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pycocotools.mask as mask_api

from models.evaluation.coco_json import MAX_SIDE
from models.evaluation.errors import EvaluationError
from models.evaluation.files import read_header
from models.files import open_regular
from models.training.data.errors import DataError
from models.training.data.figures import polygon_area

PICTURE_SUFFIXES = (".bmp", ".gif", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")

_TEXT_BYTES = 64 << 20


class CocoBuilder:
    """Collects pictures and objects, and writes them as COCO JSON.

    Args:
        class_names: categories, in this order, with ids from 1.
        images_folder: that the names of pictures are relative to.
        category_fields: more keys of every category, such as ``keypoints``.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        images_folder: Path,
        category_fields: Mapping[str, Any] | None = None,
    ) -> None:
        self.images_folder = images_folder
        self._categories = [
            {"id": number, "name": name, **(category_fields or {})}
            for number, name in enumerate(class_names, start=1)
        ]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the categories."""
        return tuple(str(category["name"]) for category in self._categories)

    @property
    def num_images(self) -> int:
        """Pictures so far."""
        return len(self._images)

    @property
    def num_objects(self) -> int:
        """Objects so far."""
        return len(self._annotations)

    def add_image(self, path: Path, height: int, width: int) -> None:
        """A picture; ``path`` lies in ``images_folder``."""
        self._images.append(
            {
                "id": len(self._images) + 1,
                "file_name": path.relative_to(self.images_folder).as_posix(),
                "height": height,
                "width": width,
            }
        )

    def add_object(
        self, class_id: int, box: tuple[float, float, float, float], **fields: Any
    ) -> None:
        """An object of the last picture.

        Args:
            class_id: from 0.
            box: XYXY in pixels.
            fields: more keys of the annotation, such as ``segmentation``; those that are None are left
                out.
        """
        left, top, right, bottom = box
        area = max(0.0, (right - left) * (bottom - top))
        segmentation = fields.get("segmentation")
        if isinstance(segmentation, list):
            area = sum(map(polygon_area, segmentation))
        elif segmentation is not None:
            area = float(mask_api.area(segmentation))
        self._annotations.append(
            {
                "id": len(self._annotations) + 1,
                "image_id": len(self._images),
                "category_id": class_id + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": area,
                "iscrowd": 0,
                **{key: value for key, value in fields.items() if value is not None},
            }
        )

    def content(self) -> dict[str, Any]:
        """What the JSON holds."""
        return {
            "images": self._images,
            "annotations": self._annotations,
            "categories": self._categories,
        }

    def write(self, path: Path) -> None:
        """Write the JSON; a file that was there stays whole until the new one is.

        Raises:
            DataError: it cannot be written.
        """
        partial = path.with_name(f"{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, "w", encoding="utf-8") as file:
                json.dump(self.content(), file, ensure_ascii=False, allow_nan=False)
            os.replace(partial, path)
        except OSError as error:
            raise DataError(f"{path.name} cannot be written: {error.strerror}.") from None


def read_text(path: Path) -> str:
    """The UTF-8 text of a file of at most 64 MiB.

    Raises:
        DataError: it is not there, too large, or no text.
    """
    try:
        with open_regular(path) as file:
            data = file.read(_TEXT_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}.") from None
    if len(data) > _TEXT_BYTES:
        raise DataError(f"{path.name} is over {_TEXT_BYTES} bytes, which no file of labels is.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is no UTF-8 text (byte {error.start}).") from None


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture when it is upright.

    Raises:
        DataError: it is none, or too large.
    """
    try:
        header = read_header(path)
    except EvaluationError as error:
        raise DataError(error.message, **error.details) from error
    if not 1 <= max(header.height, header.width) <= MAX_SIDE:
        raise DataError(f"{path.name} has a side of more than {MAX_SIDE} pixels.")
    return header.height, header.width


def inside(folder: Path, path: Path, source: str) -> Path:
    """``path``, symlinks resolved, if it stays in ``folder``, which is resolved.

    Raises:
        DataError: it does not; names ``source``, where it was read.
    """
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: links in a circle, before 3.13
        raise DataError(f"{source} names {path.name[:80]!r}, which cannot be resolved.") from None
    if not real.is_relative_to(folder):
        raise DataError(
            f"{source} names {path.name[:80]!r}, which leads out of the folder {folder.name}; put the files "
            "into it."
        )
    return real
