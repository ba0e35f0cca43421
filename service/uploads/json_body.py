"""JSON bodies: bounded parsing, and the images inside them as base64."""

from __future__ import annotations

import binascii
import re
from typing import Any

import orjson
from starlette.requests import Request

from service.errors import ApiError, BadRequest, TooLarge, Unprocessable
from service.uploads.body import read_body
from service.uploads.upload import ParsedBody, Upload, UploadLimits, clean_name

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_SHAPE = (
    'The JSON body holds images as {"images": ["<base64>", {"name": "a.jpg", "data": "<base64>"}, '
    '{"url": "https://..."}]} or {"image": "<base64>"}.'
)


async def read_json(request: Request, limits: UploadLimits) -> dict[str, Any]:
    """The body as a JSON object, whatever its Content-Type says; an empty body is ``{}``.

    Raises:
        BadRequest: ``malformed_json``.
        ApiError: as ``service.uploads.body.iter_body``.
    """
    body = await read_body(request, limits)
    return parse_json(body, limits) if body.strip() else {}


def parse_json(body: bytes, limits: UploadLimits) -> dict[str, Any]:
    """The JSON object in ``body``.

    Raises:
        BadRequest: ``malformed_json``: not UTF-8, not JSON, nested too deep, or not an object.
        TooLarge: ``json_too_complex``: more values than a request for predictions can need.
    """
    check_values(body, limits)
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest("malformed_json", f"The body is not valid JSON: {error}.") from None
    if not isinstance(parsed, dict):
        raise BadRequest("malformed_json", "The JSON body is not an object.")
    return parsed


def check_values(body: bytes, limits: UploadLimits) -> None:
    """Raise :class:`TooLarge` (``json_too_complex``) where ``body`` has too many values to parse it.

    Each value costs up to 60 times its bytes once parsed. Base64 holds none of these characters, so
    counting them bounds memory without a bound on the images.
    """
    values = sum(map(body.count, (b",", b"[", b"{")))
    if values > limits.max_json_values:
        raise TooLarge(
            "json_too_complex",
            f"The JSON body has {values} values; the limit is {limits.max_json_values}.",
            limit=limits.max_json_values,
            value=values,
        )


def parse_json_images(body: bytes, limits: UploadLimits) -> ParsedBody:
    """The images under ``images`` and ``image``, and every other key as an option.

    An item that is neither an image in base64 nor a URL carries its own error: ``invalid_base64``,
    ``url_not_supported``, ``urls_disabled``, ``invalid_image_item`` or ``empty_image``.

    Raises:
        BadRequest, TooLarge: as ``parse_json``.
        Unprocessable: ``no_images``, ``invalid_images``.
        TooLarge: ``too_many_images``.
    """
    options = parse_json(body, limits)
    items = options.pop("images", [])
    if not isinstance(items, list):
        raise Unprocessable("invalid_images", f'"images" is not a list. {_SHAPE}')
    if "image" in options:
        items = [options.pop("image"), *items]
    if not items:
        raise Unprocessable("no_images", f"The request holds no image. {_SHAPE}")
    if len(items) > limits.max_images:
        raise too_many_images(len(items), limits)
    uploads = [read_item(item, index, limits) for index, item in enumerate(items)]
    return ParsedBody(uploads, options)


def too_many_images(count: int, limits: UploadLimits) -> TooLarge:
    """The error for ``count`` images, or as many as were seen before reading stopped."""
    return TooLarge(
        "too_many_images",
        f"The request holds {count} images or more; the limit is {limits.max_images}. "
        "Send them in several requests.",
        limit=limits.max_images,
        value=count,
    )


IMAGE_KEYS = frozenset({"name", "data", "url"})


def read_item(item: object, index: int, limits: UploadLimits) -> Upload:
    """An image of a JSON body: base64, or an object with ``data`` or ``url`` and perhaps a ``name``.

    Args:
        item: as parsed.
        index: its place among the images, from 0.
        limits: say whether URLs are fetched.
    """
    name = clean_name(None, index)
    if isinstance(item, dict):
        strange = sorted(map(str, item.keys() - IMAGE_KEYS))
        if strange or ("data" in item and "url" in item):
            problem = (
                f"Image {index + 1} has the key {strange[0][:64]!r}; options are for all images together."
                if strange
                else f'Image {index + 1} has both "data" and "url"; give one.'
            )
            return Upload(name, None, Unprocessable("invalid_image_item", f"{problem} {_SHAPE}"))
        given = item.get("name")
        given = given if isinstance(given, str) else None
        name = clean_name(given, index)
        url, item = item.get("url"), item.get("data")
        if isinstance(url, str) and item is None:
            return Upload.by_url(url, index, limits, name=given)
    if not isinstance(item, str):
        problem = (
            f'Image {index + 1} is neither a base64 string nor an object with "data" or "url".'
        )
        return Upload(name, None, Unprocessable("invalid_image_item", f"{problem} {_SHAPE}"))
    try:
        return Upload.of(name, decode_base64(item))
    except ApiError as error:
        return Upload(name, None, error)


def decode_base64(text: str) -> bytes:
    """Base64 of the standard alphabet, padded; whitespace and a data URL's head are skipped."""
    if _URL.match(text):
        raise Unprocessable(
            "url_not_supported",
            'URLs are not fetched from here; give it as {"url": "https://..."}, or send the bytes of the '
            "image, as base64 or as the request body.",
        )
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise BadRequest(
                "invalid_base64", 'A data URL must read "data:image/jpeg;base64,<base64>".'
            )
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        pass
    # Second attempt only now: few encoders break lines, and stripping copies the whole image.
    text = "".join(text.split())
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise BadRequest("invalid_base64", _base64_problem(text)) from None


def _base64_problem(text: str) -> str:
    stripped = text.rstrip("=")
    wrong = re.search(r"[^A-Za-z0-9+/]", stripped)
    if wrong and wrong.group() in "-_":
        return (
            f"The base64 holds {wrong.group()!r} of the URL-safe alphabet; "
            "use the standard one, with '+' and '/'."
        )
    if wrong:
        return f"The base64 holds a character outside its alphabet at position {wrong.start()}."
    return (
        f"The base64 has {len(text)} characters with {len(text) - len(stripped)} of padding; "
        "pad it with '=' to a multiple of 4."
    )
