"""The body of an answer, in each format."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from service.encoding.formats.answered import Answered
from service.encoding.formats.coco import coco_json
from service.encoding.formats.geojson import geojson
from service.encoding.formats.native import native_json
from service.encoding.formats.table import csv_table
from service.schemas.options import FormatName


def render(answered: Answered, chosen: FormatName) -> bytes:
    """The whole answer in a format other than ``ndjson``, which has no whole."""
    return _RENDERERS[chosen](answered)


def _picture(answered: Answered) -> bytes:
    """The file that was drawn in the place of the outputs."""
    [answer] = answered.answers
    picture: bytes = (answer.outputs or {})["picture"]
    return picture


_RENDERERS: Mapping[FormatName, Callable[[Answered], bytes]] = {
    "json": native_json,
    "coco": coco_json,
    "csv": csv_table,
    "geojson": geojson,
    "png": _picture,
    "jpeg": _picture,
    "webp": _picture,
}
