"""Instances as GeoJSON (RFC 7946), but in pixels: x to the right and y down from the top left corner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.encoding.formats.answered import Answered
from service.encoding.formats.table import upright_boxes
from service.encoding.polygons import Polygon


def geojson(answered: Answered) -> bytes:
    """A feature for each instance: its mask as a Polygon or MultiPolygon, else its box.

    The members ``images`` and ``errors`` stand beside ``features``: GeoJSON allows for others.
    """
    answers = answered.answers
    content = {
        "type": "FeatureCollection",
        "features": [
            feature
            for index, answer, found in answered.instances()
            for feature in _features(index, answer.name, found)
        ],
        "images": [
            {"index": index, "name": answer.name, "width": answer.width, "height": answer.height}
            for index, answer in enumerate(answers)
            if answer.error is None
        ],
        "errors": [
            {"index": index, "name": answer.name, **answer.error.body()}
            for index, answer in enumerate(answers)
            if answer.error is not None
        ],
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _features(index: int, image: str, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    boxes = upright_boxes(found)
    if "masks" in found:
        shapes = [_of_polygons(polygons) for polygons in found["masks"]]
    else:
        rings = found["polygons"] if "polygons" in found else _corners(boxes)
        shapes = [{"type": "Polygon", "coordinates": [_closed(ring)]} for ring in rings]
    return [
        {
            "type": "Feature",
            "bbox": box,
            "geometry": shape,
            "properties": {
                "image": image,
                "image_index": index,
                "class_id": class_id,
                "class_name": name,
                "score": score,
            },
        }
        for box, shape, class_id, name, score in zip(
            boxes,
            shapes,
            found["pred_classes"].tolist(),
            found["class_names"],
            found["scores"],
            strict=True,
        )
    ]


def _of_polygons(polygons: Sequence[Polygon]) -> dict[str, Any] | None:
    """None, a feature without a place, for an empty mask."""
    parts = [[_closed(ring) for ring in (p["exterior"], *p["holes"])] for p in polygons]
    if not parts:
        return None
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}
    return {"type": "MultiPolygon", "coordinates": parts}


def _closed(ring: NDArray[Any]) -> NDArray[Any]:
    """GeoJSON's rings end where they begin; outlines run as RFC 7946 wants them, as do holes."""
    return np.concatenate((ring, ring[:1]))


def _corners(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(R, 4, 2) corners of (R, 4) boxes."""
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
