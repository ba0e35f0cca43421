"""One picture's instances as shapes of CVAT, in pixels of the picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.encoding.mask_runs import MaskRuns
from service.encoding.polygons import encode_polygons
from service.errors import Unprocessable
from service.inference.detector import ModelDescription

Shape = Literal["rectangle", "polygon", "mask", "rle"]
LABEL_TYPES: dict[Shape, str] = {
    "rectangle": "rectangle",
    "polygon": "polygon",
    "mask": "mask",
    "rle": "mask",
}
"""What CVAT calls the shapes: ``mask`` holds pixels, as functions answer, and ``rle`` run lengths, as its
API takes them."""

Values = dict[str, Any]


def check_shape(shape: Shape, model: ModelDescription) -> None:
    """Raise :class:`Unprocessable`, ``shape_not_supported``, if the model has nothing of that shape."""
    has_boxes, has_masks = "instances" in model.outputs, "masks" in model.outputs
    rotated = model.box_mode == "XYWHA_ABS"
    if shape == "rectangle":
        possible = has_boxes
    elif shape == "polygon":
        possible = has_masks or (has_boxes and rotated)
    else:
        possible = has_masks
    if not possible:
        raise Unprocessable(
            "shape_not_supported",
            f"This model finds nothing that shape={shape} could show; its outputs are "
            f"{', '.join(model.outputs)}.",
            shape=shape,
        )


def encode_shapes(
    instances: Mapping[str, Any], shape: Shape, *, width: int, height: int
) -> list[Values]:
    """Shapes as CVAT's functions answer: label, confidence as text, type and points.

    Args:
        instances: as ``POST /predict`` has them, with masks as run lengths unless boxes will do.
        shape: of which kind. A mask in several parts is several polygons, without holes.
        width, height: of the picture.
    """
    if shape == "rectangle":
        drawn = _rectangles(instances, width, height)
    elif shape == "polygon":
        drawn = _polygons(instances, width, height)
    else:
        drawn = _masks(instances, width, height, pixels=shape == "mask")
    scores: list[float] = instances["scores"].tolist()
    names: list[str] = instances["class_names"]
    return [
        {"confidence": f"{scores[i]:.6g}", "label": names[i], "type": LABEL_TYPES[shape]} | values
        for i, values in drawn
    ]


def _rectangles(
    instances: Mapping[str, Any], width: int, height: int
) -> Iterator[tuple[int, Values]]:
    if "polygons" in instances:
        # CVAT turns a rectangle, given as it would lie unturned, clockwise around its middle.
        for i, (x, y, w, h, angle) in enumerate(instances["pred_boxes"].tolist()):
            points = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            yield i, {"points": _rounded(points), "rotation": round(-angle % 360, 3) % 360}
        return
    for i, box in enumerate(_clipped(instances["pred_boxes"].reshape(-1, 2, 2), width, height)):
        yield i, {"points": box}


def _polygons(
    instances: Mapping[str, Any], width: int, height: int
) -> Iterator[tuple[int, Values]]:
    if "masks" not in instances:
        for i, corners in enumerate(_clipped(instances["polygons"], width, height)):
            yield i, {"points": corners}
        return
    for i, parts in enumerate(encode_polygons(instances["masks"], (height, width))):
        for part in parts:
            yield i, {"points": _rounded(part["exterior"].ravel().tolist())}


def _masks(
    instances: Mapping[str, Any], width: int, height: int, *, pixels: bool
) -> Iterator[tuple[int, Values]]:
    boxes = _clipped(instances["pred_boxes"].reshape(-1, 2, 2), width, height)
    for i, (left, top, bits) in enumerate(MaskRuns.of(instances["masks"], (height, width)).crops()):
        if not bits.size:
            continue
        rows, columns = bits.shape
        corners = [left, top, left + columns - 1, top + rows - 1]
        flat = bits.ravel()
        if pixels:
            yield i, {"points": boxes[i], "mask": flat.view(np.uint8).tolist() + corners}
        else:
            yield i, {"points": _runs(flat) + corners}


def _runs(bits: NDArray[np.bool_]) -> list[int]:
    """Run lengths of (N,) pixels, background first."""
    edges = np.flatnonzero(np.diff(bits, prepend=False))
    lengths: list[int] = np.diff(edges, prepend=0, append=len(bits)).tolist()
    return lengths


def _clipped(points: NDArray[np.float32], width: int, height: int) -> list[list[float]]:
    """(R, P, 2) points of x and y within the picture, each instance's in one list."""
    clipped = points.clip(0, np.array([width, height], dtype=points.dtype))
    return [_rounded(own) for own in clipped.reshape(len(points), 2 * points.shape[1]).tolist()]


def _rounded(values: list[float]) -> list[float]:
    """Hundredths of a pixel, as CVAT keeps them."""
    return [round(value, 2) for value in values]
