"""Instances as CSV (RFC 4180): a line each, under a line of names."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.encoding.formats.answered import Answered

COLUMNS = ("image", "width", "height", "class_id", "class_name", "score", "x1", "y1", "x2", "y2")

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_table(answered: Answered) -> bytes:
    """The instances of all images that could be used, in UTF-8; boxes are corners in pixels."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for _, answer, found in answered.instances():
        head = (as_text(answer.name), answer.width, answer.height)
        classes = found["pred_classes"].tolist()
        for class_id, name, score, box in zip(
            classes, found["class_names"], found["scores"], upright_boxes(found), strict=True
        ):
            writer.writerow((*head, class_id, as_text(name), score, *box))
    return file.getvalue().encode()


def as_text(name: str) -> str:
    """A name that no spreadsheet takes for a formula: an apostrophe stands before one that it could."""
    return f"'{name}" if name.lstrip().startswith(_FORMULA_STARTS) else name


def upright_boxes(instances: Mapping[str, Any]) -> NDArray[np.float32]:
    """(R, 4) corners in pixels; around rotated boxes the smallest upright ones."""
    if "polygons" not in instances:
        boxes: NDArray[np.float32] = instances["pred_boxes"]
        return boxes
    corners: NDArray[np.float32] = instances["polygons"]
    return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
