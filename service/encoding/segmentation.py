"""Maps of classes or segments to JSON: one PNG, or run-length encoded masks."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.structures import encode_rle_crop


def encode_sem_seg(
    classes: NDArray[np.integer], names: tuple[str, ...], form: str
) -> dict[str, Any]:
    """A semantic map.

    Args:
        classes: (H, W) class of each pixel.
        names: of the classes; the index is the class id.
        form: "png" (a grey picture whose values are the class ids) or "rle" (a mask per class).

    Returns:
        ``format``, per class that occurs its id, name and area in pixels, and the picture or masks.
    """
    ids, areas = np.unique(classes, return_counts=True)
    entries: list[dict[str, Any]] = []
    for class_id, area in zip(ids.tolist(), areas.tolist(), strict=True):
        entry = {"category_id": class_id, "category_name": names[class_id], "area": area}
        if form == "rle":
            entry["segmentation"] = _rle(classes == class_id)
        entries.append(entry)
    return _answer(classes, "segments", entries, form)


def encode_panoptic_seg(
    segments: NDArray[np.integer],
    infos: list[dict[str, Any]],
    *,
    things: tuple[str, ...],
    stuff: tuple[str, ...],
    form: str,
) -> dict[str, Any]:
    """A panoptic map.

    Args:
        segments: (H, W) segment of each pixel, 0 is none.
        infos: ``segments_info``, as the model gives them.
        things, stuff: names of the classes.
        form: as of :func:`encode_sem_seg`; the values of the picture are the segments' ids.
    """
    entries = []
    for info in infos:
        names = things if info["isthing"] else stuff
        mask = segments == info["id"]
        entry = info | {"category_name": names[info["category_id"]], "area": int(mask.sum())}
        if form == "rle":
            entry["segmentation"] = _rle(mask)
        entries.append(entry)
    return _answer(segments, "segments_info", entries, form)


def _answer(
    values: NDArray[np.integer], key: str, entries: list[dict[str, Any]], form: str
) -> dict[str, Any]:
    answer: dict[str, Any] = {"format": form, key: entries}
    if form == "png":
        answer["png"] = _png(values)
    return answer


def _png(values: NDArray[np.integer]) -> str:
    """Base64 of a grey PNG, of 8 bits if the values fit, else of 16."""
    wide = bool(values.size) and int(values.max()) > 255
    picture = Image.fromarray(values.astype(np.uint16 if wide else np.uint8))
    buffer = io.BytesIO()
    picture.save(
        buffer, "PNG", compress_level=1
    )  # level 6 takes five times as long for a tenth less
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _rle(mask: NDArray[np.bool_]) -> Any:
    """RLE of a frame, made from the crop around what is set."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return encode_rle_crop(mask[:0, :0], left=0, top=0, height=height, width=width)
    top, left = int(rows[0]), int(columns[0])
    crop = mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    return encode_rle_crop(crop, left=left, top=top, height=height, width=width)
