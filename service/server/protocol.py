"""uvicorn's HTTP/1.1 protocol with bounds on the head of a request and a close that is heard.

uvicorn 0.54 takes a head of any size, waits for it without end, and closes a connection on which
the client still sends, so that the client may never see why.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.server.cycle import GatheringCycle

logger = logging.getLogger(__name__)


class HeadTooLargeError(Exception):
    """Stops the parser from within one of its callbacks."""


class NotAProxyError(Exception):
    """Stops the parser at a CONNECT."""


class GuardedHttpProtocol(HttpToolsProtocol):
    """One connection. Answers 431, 408 and 400 by itself, as JSON, and then closes.

    Attributes:
        max_head_bytes: request line and headers of one request; also trailers and chunk extensions.
        head_timeout_s: from the connection, or the first byte of a later request, to the end of
            its headers. Between requests uvicorn's keep-alive timeout holds.
        linger_s: how long to read and drop what a client still sends after the last answer.
        on_refused: told the status of every request that is refused here, before the app.
    """

    cycle: GatheringCycle  # None before the first request
    max_head_bytes = 32 * 1024
    head_timeout_s = 10.0
    linger_s = 2.0
    on_refused: Callable[[int], None] = staticmethod(lambda status: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_body = False
        self._saw_bytes = False
        self._heads = 0
        self._unparsed_bytes = 0
        self._head_bytes = 0
        self._discarding = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself declares it
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            return
        self._saw_bytes = True
        if not self._in_body:
            self._start_head_timer()
        heads, in_body = self._heads, self._in_body
        # The parser keeps an unfinished header to itself, so count what goes in; ``on_body`` sets
        # the count back: it is what has led to nothing so far.
        self._unparsed_bytes += len(data)
        self._unset_keepalive_if_required()
        self._feed(data)
        if (heads, in_body) != (self._heads, self._in_body):
            # A new request began somewhere inside ``data``; this is one read at most.
            self._unparsed_bytes = 0
        elif self._unparsed_bytes > self.max_head_bytes and not self._discarding:
            self._reject_large_head()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._head_bytes > self.max_head_bytes:
                self._reject_large_head()
            else:
                self._reject(400, "malformed_request", "The request is not valid HTTP/1.1.")

    def _decline_upgrade(self, rest: bytes) -> None:
        """Serve a request as if it had not asked for another protocol, which servers may.

        Java's HttpClient asks for h2c in every request. The parser leaves such a request at the end
        of its head, body unread, so a new one gets the head without the question.
        """
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name not in (b"connection", b"upgrade", b"http2-settings"):
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"".join([*head, b"\r\n", rest]))

    # What the parser calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._start_head_timer()

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        # A trailer, after the body: merged into the headers it could forge what was checked there.
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise NotAProxyError
            return
        self._stop_head_timer()
        self._in_body = True
        self._heads += 1
        self._start_cycle()

    def _start_cycle(self) -> None:
        """Begin with the request whose head is complete, behind those that it was pipelined after.

        In the place of uvicorn's ``on_headers_complete``, which has its own kind of cycle.
        """
        version = self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = version
        self.scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        self.scope["raw_path"] = self.root_path.encode("ascii") + url.path
        self.scope["query_string"] = url.query or b""
        before = self.cycle
        draining = getattr(self.server_state, "draining", False)
        self.cycle = GatheringCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive() and not draining,
            on_response=self.on_response_complete,
        )
        self.cycle.transport = cast(asyncio.Transport, _LingeringTransport(self, self.cycle))
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        if not self.cycle.response_complete:
            self.cycle.add_body(body)

    def on_message_complete(self) -> None:
        if not self._in_body:  # a head that asked for an upgrade: it comes again
            return
        self._in_body = False
        if not self.cycle.response_complete:
            self.cycle.end_body()

    # Heads that are too large, too slow or malformed

    def _count_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > self.max_head_bytes:
            raise HeadTooLargeError

    def _reject_large_head(self) -> None:
        self._reject(
            431,
            "headers_too_large",
            f"The request line and headers are over the limit of {self.max_head_bytes} bytes.",
        )

    def _reject(self, status: int, code: str, message: str) -> None:
        """Answer and close, unless an answer to an earlier request is under way."""
        self._stop_head_timer()
        self._discarding = True
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and not self.cycle.more_body:
            # A pipelined request is at fault; those before it still get their answers.
            self.cycle.keep_alive = False
            self.flow.resume_reading()
            return
        if busy and (self.cycle.response_started or self.pipeline):
            self.transport.close()
            return
        request_id = uuid.uuid4().hex
        logger.info("Refused a request: %d %s id=%s", status, code, request_id)
        self.on_refused(status)
        error = {"code": code, "message": message, "request_id": request_id}
        body = orjson.dumps({"error": error})
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        if busy:
            # The app waits for the rest of this body; it learns that the client is gone.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._linger()

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._on_head_timeout)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or self._discarding:
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # Not the client's fault: reading may be paused until the answer before is out.
            self._start_head_timer()
        elif not self._saw_bytes:
            self.transport.close()
        else:
            self._reject(
                408,
                "request_timeout",
                f"The request's headers took longer than {self.head_timeout_s:g} s to arrive.",
            )

    # Closing while the client still sends

    def _linger(self) -> None:
        """Say that nothing more comes, and close when the client has, or ``linger_s`` later.

        Closed at once with bytes unread, TCP resets the connection and the client may lose the
        answer that tells it why.
        """
        if self._linger_timer is not None or self.transport.is_closing():
            return
        self._discarding = True
        self._linger_timer = self.loop.call_later(self.linger_s, self.transport.close)
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()


class _LingeringTransport:
    """A cycle's transport that lingers on ``close`` when the request's body is not all there."""

    def __init__(self, protocol: GuardedHttpProtocol, cycle: GatheringCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._transport = protocol.transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        if self._cycle.more_body and self._cycle.response_complete:
            self._protocol._linger()
        else:
            self._transport.close()


def guarded_protocol(
    *,
    max_head_bytes: int = 32 * 1024,
    head_timeout_s: float = 10.0,
    on_refused: Callable[[int], None] | None = None,
) -> type[GuardedHttpProtocol]:
    """The protocol class with these limits, for ``uvicorn.Config(http=...)``."""
    limits: dict[str, Any] = {
        "max_head_bytes": max_head_bytes,
        "head_timeout_s": head_timeout_s,
    }
    if on_refused is not None:
        limits["on_refused"] = staticmethod(on_refused)
    return type("GuardedHttpProtocol", (GuardedHttpProtocol,), limits)
