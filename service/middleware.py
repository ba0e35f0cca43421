"""The outermost layer of the app: request ids, one record per request, and no leaked exception.

Pure ASGI, because Starlette's ``BaseHTTPMiddleware`` hides a client's departure from the handlers.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.error_handlers import as_api_error, error_response, internal_error
from service.tracing import span_of

logger = logging.getLogger(__name__)

UNMATCHED = "unmatched"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, kw_only=True)
class RequestRecord:
    """What one request was and how it ended.

    Attributes:
        method: the HTTP method, upper case.
        path: as the client sent it, percent-decoded and without the query; not safe as a label.
        route: the route's template, such as ``/models/{name}``, or ``unmatched``; safe as a label.
        status: the status of the answer; 499 when the client left before it began.
        duration_s: from the first byte for the app until the last byte of the answer.
        request_bytes: bytes of the body that the app read.
        response_bytes: bytes of the answer's body.
        client: the peer's address, without the port.
        request_id: the id that the answer carries in ``X-Request-ID``.
        extra: what handlers put into ``scope["state"]["log"]``.
    """

    method: str
    path: str
    route: str
    status: int
    duration_s: float
    request_bytes: int
    response_bytes: int
    client: str | None
    request_id: str
    extra: dict[str, Any] = field(default_factory=dict)


class RequestContextMiddleware:
    """Gives every request an id, and reports it exactly once, however it ends.

    A request that belongs to a trace (W3C Trace Context) is a span of it: the record has both ids, and
    the answer the headers with which the trace goes on.

    Handlers find the id in ``request.state.request_id`` and add facts for the log to the dict
    ``request.state.log``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        observe: Callable[[RequestRecord], None],
        started: Callable[[str], None] | None = None,
    ) -> None:
        """Wrap ``app``.

        Args:
            observe: called once when a request has ended: answered, failed or abandoned.
            started: called once with the route, as soon as the router has found it. A request that
                was started is always observed, with the same route: gauges balance.
        """
        self.app = app
        self.observe = observe
        self.started = started

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self.started)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            # Only a stop of the server cancels a request; its own layer answers 503 then.
            exchange.status = exchange.status or 503
            raise
        except Exception as error:  # anything becomes one 500 with a body
            await exchange.fail(error)
        finally:
            exchange.start()
            _guarded(self.observe, exchange.record())


class _Exchange:
    """One request and its answer, counted while they pass."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, started: Callable[[str], None] | None
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started = started
        self._begin = perf_counter()
        self._end: float | None = None
        self._route: str | None = None
        self._root_path: str = scope.get("root_path", "")
        self._body_pending = _announces_body(scope)
        self._disconnected = False
        self._request_bytes = 0
        self._response_bytes = 0
        self.status = 0
        state = scope.setdefault("state", {})
        self.request_id = state["request_id"] = _request_id(scope)
        self._extra: dict[str, Any] = state.setdefault("log", {})
        self._own_headers = [(b"x-request-id", self.request_id.encode())]
        span = span_of(scope["headers"])
        if span is not None:
            self._own_headers += span.headers()
            self._extra |= {"trace_id": span.trace_id, "span_id": span.span_id}

    async def receive(self) -> Message:
        self.start()
        message = await self._receive()
        if message["type"] == "http.request":
            self._request_bytes += len(message.get("body", b""))
            self._body_pending = message.get("more_body", False)
        elif self._end is None:
            self._disconnected = True
        return message

    async def send(self, message: Message) -> None:
        self.start()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", []), *self._own_headers]
            # What is left of the body would be read as the next request's head.
            if (
                self._body_pending
                and self.status >= 400
                and not any(name.lower() == b"connection" for name, _ in headers)
            ):
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            self._response_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                self._end = perf_counter()
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Answer an exception that no handler took; the traceback goes to the log, once."""
        api_error = as_api_error(error)
        if api_error is None:
            logger.error("Unhandled error, request id %s", self.request_id, exc_info=error)
            api_error = internal_error()
        if self.status:
            # The answer is under way and cannot be taken back; the server cuts the connection.
            return
        await error_response(api_error, self.request_id)(self._scope, self.receive, self.send)

    def start(self) -> None:
        """Report the start, the first time that this is called: routing is done by then."""
        if self._route is None:
            self._route = _route_template(self._scope, self._root_path)
            if self._started is not None:
                _guarded(self._started, self._route)

    def record(self) -> RequestRecord:
        client = self._scope.get("client")
        # Nothing was sent: the client left, or the app forgot to answer and the server says 500.
        status = self.status or (499 if self._disconnected else 500)
        return RequestRecord(
            method=self._scope["method"],
            path=self._scope["path"],
            route=self._route or UNMATCHED,
            status=status,
            duration_s=(self._end or perf_counter()) - self._begin,
            request_bytes=self._request_bytes,
            response_bytes=self._response_bytes,
            client=client[0] if client else None,
            request_id=self.request_id,
            extra=self._extra,
        )


def _guarded(callback: Callable[[Any], None], argument: object) -> None:
    """A broken observer must not break the request that it observes."""
    try:
        callback(argument)
    except Exception:  # a foreign callback must not fail the request
        logger.exception("An observer of requests failed")


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given: str = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(given):
                return given
    # To tell requests apart, not to keep anybody out: no need for the kernel's randomness, which costs
    # more than its system call, since others get the interpreter meanwhile.
    return f"{random.getrandbits(128):032x}"


def _announces_body(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ")):
            return True
    return False


def _route_template(scope: Scope, root_path: str) -> str:
    """The template of the route that took the request: never a part that the client chose.

    Mounts are expected to have fixed paths.
    """
    mount: str = scope.get("root_path", "")[len(root_path) :]
    route = scope.get("route")
    # FastAPI keeps the prefix of an included router beside the route, not in it.
    context = scope.get("fastapi", {}).get("effective_route_context")
    if context is not None and getattr(context, "original_route", None) is route:
        route = context
    path = getattr(route, "path", None)
    if isinstance(path, str):
        return mount + path
    if not scope.get("path_params"):
        if "endpoint" in scope and not mount:
            # Matched without any parameter, so that the path is its own template.
            return str(scope["path"])
        if mount:
            return mount
    return UNMATCHED
