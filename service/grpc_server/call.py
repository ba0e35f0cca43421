"""One gRPC call: seen by guards, audit, log and metrics like a request over HTTP, and ended by a status."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import grpc
from fastapi import FastAPI
from google.protobuf.message import DecodeError
from starlette.requests import Request

from service.error_handlers import as_api_error, internal_error
from service.errors import ApiError, BadRequest
from service.grpc_server.messages import MESSAGES, METHODS, SERVICE
from service.middleware import RequestRecord
from service.request_metrics import RequestMetrics

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/grpc"
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""By the HTTP status; every other is a fault of the request."""

Handler = Callable[[Request, Any, Any], Awaitable[Any]]


class Calls:
    """Runs the handlers of the methods.

    Args:
        app: of the server; guards and audit find its runtime there.
        observer: counts and logs.
    """

    def __init__(self, app: FastAPI, observer: RequestMetrics) -> None:
        self._app = app
        self._observer = observer

    def handling(
        self, method: str, handle: Handler, *, probe: bool = False
    ) -> Callable[[bytes, Any], Awaitable[Any]]:
        """``handle(request, message, context)`` as gRPC calls it: ``(bytes, context)``.

        Args:
            method: its name.
            handle: answers with a message, or raises an ApiError.
            probe: neither counted nor logged.
        """
        path = f"/{SERVICE}/{method}"

        asked, _ = METHODS[method]

        async def answer(sent: bytes, context: Any) -> Any:
            request = self._request(path, context)
            began = perf_counter()
            status, size = 500, 0
            if not probe:
                self._observer.started(path)
            try:
                reply = await handle(request, _message(asked, sent), context)
                status, size = 200, reply.ByteSize()
                return reply
            except asyncio.CancelledError:
                # By the client, its deadline, or the end of the drain.
                status = 503 if self._draining else 499
                raise
            except Exception as error:  # the one place where errors become a status
                refusal = _refusal(error, request)
                status = refusal.status
                await _abort(context, refusal, request)
            finally:
                if not probe:
                    self._observer.ended(
                        RequestRecord(
                            method="POST",
                            path=path,
                            route=path,
                            status=status,
                            duration_s=perf_counter() - began,
                            request_bytes=len(sent),
                            response_bytes=size,
                            client=request.client.host if request.client else None,
                            request_id=request.state.request_id,
                            extra=request.state.log,
                        )
                    )

        return answer

    @property
    def _draining(self) -> bool:
        return bool(self._app.state.runtime.draining)

    def _request(self, path: str, context: Any) -> Request:
        """The call as a request: its metadata are the headers."""
        headers = [
            (key.lower().encode("latin-1"), value.encode("latin-1", "replace"))
            for key, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        ]
        # What gRPC keeps to itself. No web page can make such a call: browsers speak no HTTP/2 without
        # TLS and set no such content type, so the name by which it came proves nothing here.
        headers += [(b"content-type", CONTENT_TYPE.encode()), (b"host", b"localhost")]
        return Request(
            {
                "type": "http",
                "method": "POST",
                "path": path,
                "query_string": b"",
                "headers": headers,
                "client": _peer(context.peer()),
                "app": self._app,
                "state": {"request_id": f"{random.getrandbits(128):032x}", "log": {}},
            }
        )


def _peer(peer: str) -> tuple[str, int] | None:
    """``ipv4:127.0.0.1:5000`` or ``ipv6:[::1]:5000`` as address and port; None for anything else."""
    kind, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    return host.strip("[]"), int(port)


def _message(kind: str, sent: bytes) -> Any:
    """The message that was sent. Raises :class:`BadRequest`: ``malformed_message``."""
    try:
        return MESSAGES[kind].FromString(sent)
    except DecodeError:
        raise BadRequest("malformed_message", f"These bytes are no {kind}.") from None


def _refusal(error: Exception, request: Request) -> ApiError:
    refusal = as_api_error(error)
    if refusal is None:
        logger.error("Unhandled error, request id %s", request.state.request_id, exc_info=error)
        refusal = internal_error()
    return refusal


async def _abort(context: Any, error: ApiError, request: Request) -> None:
    """End the call with the status that ``error`` means; its code and the request id go as metadata."""
    trailing = [("x-request-id", request.state.request_id), ("x-error-code", error.code)]
    if "Retry-After" in error.headers:
        trailing.append(("retry-after", error.headers["Retry-After"]))
    code = _CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
    # Text of a status is percent-encoded in the headers, which have a bound.
    await context.abort(code, error.message[:2000], tuple(trailing))
