"""Maps of classes or segments to JSON: one PNG, or run-length encoded masks."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.structures.rle import RLE, encode_rle_edges, encode_rle_map, runs
from service.encoding.png import encode_grey_png


def encode_sem_seg(
    classes: NDArray[np.integer], names: tuple[str, ...], form: str
) -> dict[str, Any]:
    """A semantic map.

    Args:
        classes: (H, W) class of each pixel; negative where none was looked for, outside of a region,
            which in the picture is the largest value of its depth.
        names: of the classes; the index is the class id.
        form: "png" (a grey picture whose values are the class ids) or "rle" (a mask per class).

    Returns:
        ``format``, per class that occurs its id, name and area in pixels, and the picture or masks.
    """
    entries: list[dict[str, Any]] = []
    for class_id, (area, mask) in _values(classes, form).items():
        if class_id < 0:
            continue
        entry = {"category_id": class_id, "category_name": names[class_id], "area": area}
        entries.append(entry if mask is None else entry | {"segmentation": mask})
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
    values = _values(segments, form)
    no_edges = np.empty(0, dtype=np.int64)
    [empty] = encode_rle_edges(no_edges, no_edges, 1, *segments.shape)
    nothing = (0, empty if form == "rle" else None)
    for info in infos:
        names = things if info["isthing"] else stuff
        area, mask = values.get(info["id"], nothing)
        entry = info | {"category_name": names[info["category_id"]], "area": area}
        entries.append(entry if mask is None else entry | {"segmentation": mask})
    return _answer(segments, "segments_info", entries, form)


def _values(values: NDArray[np.integer], form: str) -> dict[int, tuple[int, RLE | None]]:
    """Per value of an (H, W) map, ascending: its area in pixels and, if wanted, its mask."""
    if form == "rle":
        found, areas, masks = encode_rle_map(values)
        return dict(zip(found.tolist(), zip(areas.tolist(), masks, strict=True), strict=True))
    _, lengths, of_run = runs(values.ravel())
    found, owners = np.unique(of_run, return_inverse=True)
    areas = np.bincount(owners, weights=lengths).astype(np.int64)
    return {value: (area, None) for value, area in zip(found.tolist(), areas.tolist(), strict=True)}


def _answer(
    values: NDArray[np.integer], key: str, entries: list[dict[str, Any]], form: str
) -> dict[str, Any]:
    answer: dict[str, Any] = {"format": form, key: entries}
    if form == "png":
        answer["png"] = _png(values)
    return answer


def _png(values: NDArray[np.integer]) -> str:
    """Base64 of a grey PNG whose samples are the values, of 8 bits if they fit, else of 16."""
    # As an unsigned number a negative value is the largest, and must not be a class as well.
    most = int(values.max()) + (int(values.min()) < 0) if values.size else 0
    depth = 16 if most > 255 else 8
    samples = values.astype(f">u{depth // 8}", order="C").view(np.uint8)
    file = encode_grey_png(samples, width=values.shape[1], depth=depth)
    return base64.b64encode(file).decode("ascii")
