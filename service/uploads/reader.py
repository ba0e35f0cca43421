"""``read_uploads``: one request body in any accepted form -> its images."""

from __future__ import annotations

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from service.errors import Unprocessable, UnsupportedMediaType
from service.uploads.body import read_body
from service.uploads.json_body import parse_json_images
from service.uploads.multipart import read_multipart
from service.uploads.ndjson_body import parse_ndjson_images
from service.uploads.upload import ParsedBody, Upload, UploadLimits, clean_name

NDJSON = "application/x-ndjson"
ACCEPTED = (
    "image/*",
    "application/octet-stream",
    "multipart/form-data",
    "application/json",
    NDJSON,
)


async def read_uploads(request: Request, limits: UploadLimits) -> ParsedBody:
    """The images of the request and the options in its body, judged by Content-Type.

    ``image/*``, ``application/octet-stream`` and no Content-Type at all mean one image, as it is;
    what kind of image is decided later and by content. In JSON, NDJSON and multipart, one bad item
    carries its own ``error``, and a URL is still to be fetched.

    Raises:
        UnsupportedMediaType: ``unsupported_content_type``, ``unsupported_content_encoding``.
        BadRequest: ``malformed_json``, ``malformed_multipart``.
        Unprocessable: ``no_images``, and what is wrong with the form or the JSON as a whole.
        TooLarge: ``body_too_large``, ``too_many_images`` and the smaller limits.
        RequestTimeout: ``request_timeout``.
        ClientDisconnected: the client left before the body ended.
    """
    kind = parse_options_header(request.headers.get("content-type"))[0].decode("latin-1").strip()
    if kind == "multipart/form-data":
        return await read_multipart(request, limits)
    if kind == "application/json":
        return parse_json_images(await read_body(request, limits), limits)
    if kind == NDJSON:
        return parse_ndjson_images(await read_body(request, limits), limits)
    if kind in ("", "application/octet-stream") or kind.startswith("image/"):
        data = await read_body(request, limits)
        if not data:
            raise Unprocessable(
                "no_images",
                "The request body is empty; send the bytes of an image, as in "
                "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg'.",
            )
        return ParsedBody([Upload(clean_name(None, 0), data)], {})
    raise UnsupportedMediaType(
        "unsupported_content_type",
        f"The Content-Type is not accepted; send one of {', '.join(ACCEPTED)}.",
        accepted=list(ACCEPTED),
    )
