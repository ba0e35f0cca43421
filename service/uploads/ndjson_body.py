"""NDJSON bodies: an image a line, as in the ``images`` of a JSON body; options come by query."""

from __future__ import annotations

import orjson

from service.errors import BadRequest, Unprocessable
from service.uploads.json_body import IMAGE_KEYS, check_values, read_item, too_many_images
from service.uploads.upload import ParsedBody, Upload, UploadLimits, clean_name

_SHAPE = 'A line is {"name": "a.jpg", "data": "<base64>"} or {"url": "https://..."}.'


def parse_ndjson_images(body: bytes, limits: UploadLimits) -> ParsedBody:
    """The images of the lines; empty lines are skipped.

    A line that is no image carries its own error, as in JSON, or ``malformed_json``.

    Raises:
        TooLarge: ``json_too_complex``, ``too_many_images``.
        Unprocessable: ``no_images``.
    """
    check_values(body, limits)
    # One more than are allowed shows that they are too many; the rest is not taken apart.
    lines: list[tuple[int, bytes]] = []
    number, start = 0, 0
    while start < len(body) and len(lines) <= limits.max_images:
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        number += 1
        line = body[start:end].strip()
        if line:
            lines.append((number, line))
        start = end + 1
    if not lines:
        raise Unprocessable("no_images", f"The request holds no image. {_SHAPE}")
    if len(lines) > limits.max_images:
        raise too_many_images(len(lines), limits)
    uploads = [
        _read_line(line, number, index, limits) for index, (number, line) in enumerate(lines)
    ]
    return ParsedBody(uploads, {})


def _read_line(line: bytes, number: int, index: int, limits: UploadLimits) -> Upload:
    name = clean_name(None, index)
    try:
        item = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        problem = f"Line {number} is not valid JSON: {error}. {_SHAPE}"
        return Upload(name, None, BadRequest("malformed_json", problem))
    if isinstance(item, dict) and not IMAGE_KEYS.issuperset(item):
        key = min(item.keys() - IMAGE_KEYS)[:64]
        problem = f"Line {number} has the key {key!r}; options are query parameters. {_SHAPE}"
        return Upload(name, None, Unprocessable("invalid_image_item", problem))
    return read_item(item, index, limits)
