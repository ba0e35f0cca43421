"""What a request body is read into: ``Upload``, ``ParsedBody``, and the limits it is read under."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from service.errors import ApiError, Unprocessable
from service.uploads.remote import RemoteLimits

_MAX_NAME = 100


@dataclass(frozen=True, kw_only=True)
class UploadLimits:
    """Every bound on a request body. Sizes are bytes as they come over the wire.

    Attributes:
        max_body_bytes: the whole body, framing of multipart and base64 included.
        max_images: images in one request.
        max_fields: multipart parts that are options and not images.
        max_field_bytes: one such option.
        max_part_headers: header lines of one multipart part.
        max_part_header_bytes: one header line of a multipart part.
        max_json_values: commas and brackets in a JSON body; bounds what parsing it can allocate.
        body_timeout_s: the longest silence while a body is on its way.
        min_bytes_per_s: the slowest average rate, once ``body_timeout_s`` has passed.
        remote: of URLs in the place of images; None: they are not fetched.
    """

    max_body_bytes: int = 64 * 1024 * 1024
    max_images: int = 32
    max_fields: int = 32
    max_field_bytes: int = 1024 * 1024  # proposals come as text: about 25 bytes a box
    max_part_headers: int = 8
    max_part_header_bytes: int = 4096
    max_json_values: int = 100_000  # five a box
    body_timeout_s: float = 30.0
    min_bytes_per_s: float = 1024.0
    remote: RemoteLimits | None = None


@dataclass(frozen=True)
class Upload:
    """One image of a request, still encoded: one of ``data``, ``error`` and ``url`` is set.

    Attributes:
        name: the client's file name as a short base name, or ``image``, ``image-2``, ...
        data: the bytes of the image file.
        error: what is wrong with this item alone; the rest of the request goes on.
        url: where the bytes are; see :func:`service.uploads.fetching.fetch_uploads`.
    """

    name: str
    data: bytes | None = field(repr=False)
    error: ApiError | None = None
    url: str | None = None

    @classmethod
    def of(cls, name: str, data: bytes) -> Upload:
        """An upload of these bytes; empty ones are this item's own error."""
        if data:
            return cls(name, data)
        return cls(name, None, Unprocessable("empty_image", f"The image {name!r} has no bytes."))

    @classmethod
    def by_url(
        cls, url: str, index: int, limits: UploadLimits, *, name: str | None = None
    ) -> Upload:
        """An upload that is still to be fetched; its own error where URLs are not.

        Args:
            url: as the client sent it.
            index: the image's place in the request, from 0.
            limits: of the request.
            name: the client's; default: the last part of the URL's path.
        """
        if not url.strip():
            empty = Unprocessable("url_not_allowed", "The URL of the image is empty.")
            return cls(clean_name(name, index), None, empty)
        if limits.remote is not None:
            return cls(clean_name(name or _name_in(url), index), None, url=url)
        error = Unprocessable(
            "urls_disabled",
            "This server fetches no URLs; send the bytes of the image, or start the server with "
            "--allow-urls (DETSERVE_ALLOW_URLS=true).",
        )
        return cls(clean_name(name, index), None, error)


@dataclass(frozen=True)
class ParsedBody:
    """The images of a body in their order, and the options that came beside them."""

    uploads: list[Upload]
    options: dict[str, Any]


def clean_name(name: str | None, index: int) -> str:
    """The client's file name made safe to log and to show: a base name of at most 100 characters.

    Args:
        name: what the client sent, if anything.
        index: the image's place in the request, from 0; names it when the client did not.
    """
    base = re.split(r"[/\\]", name)[-1] if name else ""
    # Category C holds control, format (text direction) and surrogate characters.
    base = "".join(c if unicodedata.category(c)[0] not in "CZ" else " " for c in base)
    base = " ".join(base.split())
    if len(base) > _MAX_NAME:
        stem, dot, extension = base.rpartition(".")
        suffix = dot + extension if dot and len(extension) <= 8 else ""
        base = (stem if suffix else base)[: _MAX_NAME - len(suffix)] + suffix
    if base.strip(". "):
        return base
    return "image" if index == 0 else f"image-{index + 1}"


def _name_in(url: str) -> str | None:
    """The last part of the path of ``url``."""
    try:
        return unquote(urlsplit(url).path) or None
    except ValueError:
        return None  # what is wrong with it, fetching tells
