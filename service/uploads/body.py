"""Reads the bytes of a request body, bounded in size and in time while they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from starlette.requests import Request

from service.errors import ClientDisconnected, RequestTimeout, TooLarge, UnsupportedMediaType
from service.uploads.upload import UploadLimits


async def read_body(request: Request, limits: UploadLimits) -> bytes:
    """The whole body.

    Raises: as ``iter_body``.
    """
    return b"".join([chunk async for chunk in iter_body(request, limits)])


async def iter_body(request: Request, limits: UploadLimits) -> AsyncIterator[bytes]:
    """The chunks of the body as they arrive; a declared length over the limit reads none of it.

    Raises:
        TooLarge: ``body_too_large``, as soon as the limit is passed.
        RequestTimeout: ``request_timeout``, when the body stops or crawls.
        ClientDisconnected: the client left before the end.
        UnsupportedMediaType: ``unsupported_content_encoding``.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType(
            "unsupported_content_encoding",
            "Compressed request bodies are not accepted; send the body without Content-Encoding.",
        )
    declared = request.headers.get("content-length", "")
    # isdecimal: a server before us has checked the header; one that has not gets counted below.
    if declared.isdecimal() and int(declared[:20]) > limits.max_body_bytes:
        raise _too_large(int(declared[:20]), limits)

    received = 0
    started = last_byte = monotonic()
    while True:
        # Silence is bounded, and so is the average rate: one byte a second is not progress.
        allowed = limits.body_timeout_s + received / limits.min_bytes_per_s
        deadline = min(last_byte + limits.body_timeout_s, started + allowed)
        try:
            async with asyncio.timeout(deadline - monotonic()):
                message = await request.receive()
        except TimeoutError:
            raise _too_slow(received, limits) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnected(
                "client_disconnected", "The client left before the body ended."
            )
        chunk: bytes = message.get("body", b"")
        if chunk:
            received += len(chunk)
            last_byte = monotonic()
            if received > limits.max_body_bytes:
                raise _too_large(received, limits)
            yield chunk
        if not message.get("more_body", False):
            return


def _too_large(size: int, limits: UploadLimits) -> TooLarge:
    error = TooLarge(
        "body_too_large",
        f"The request body has {size} bytes or more; the limit is {limits.max_body_bytes} bytes.",
        limit=limits.max_body_bytes,
        value=size,
    )
    # The rest of the body is never read, so the connection cannot carry another request.
    error.headers["connection"] = "close"
    return error


def _too_slow(received: int, limits: UploadLimits) -> RequestTimeout:
    error = RequestTimeout(
        "request_timeout",
        f"The request body arrived too slowly: {received} bytes, then no more in time. "
        f"Send it without a pause of {limits.body_timeout_s:g} s, "
        f"at {limits.min_bytes_per_s:g} bytes per second or more.",
        received_bytes=received,
    )
    error.headers["connection"] = "close"
    return error
