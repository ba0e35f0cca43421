"""HTTP/1.1 as lean as Python has it: prepared bytes out, httptools' parser in, connections kept.

A request costs the client some 20 microseconds; a general HTTP client takes one or two milliseconds,
which on the server's own machine would be measured as if it were the server's.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass
from time import perf_counter
from typing import cast

import httptools

from service.bench.target import Target

KEPT_BODY_BYTES = 4096
"""Of an answer that is not wanted, for the text of its error."""


@dataclass(slots=True)
class Answer:
    """What came back.

    Attributes:
        status: the HTTP status; 0 if none came.
        failure: why there is no answer: ``connect``, ``closed``, ``timeout`` or ``not HTTP``.
        body: the body if it was asked for, else the beginning of an error's.
        sent_at, done_at: on the clock of ``time.perf_counter``.
    """

    status: int = 0
    failure: str | None = None
    body: bytes = b""
    sent_at: float = 0.0
    done_at: float = 0.0


class Connection(asyncio.Protocol):
    """One connection with one request on its way at a time."""

    def __init__(self) -> None:
        self.usable = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._answer = Answer()
        self._parser = httptools.HttpResponseParser(self)
        self._keep_body = False
        self._has_head = False
        self._has_length = False
        self.saw_bytes = False

    async def exchange(self, request: bytes, *, timeout_s: float, keep_body: bool) -> Answer:
        """Send ``request`` and wait for its answer, which may be a failure; raises nothing."""
        assert self._transport is not None
        self._answer = answer = Answer(sent_at=perf_counter())
        self._keep_body, self._has_head, self._has_length = keep_body, False, False
        self.saw_bytes = False
        self._waiting = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._fail, "timeout")
        self._transport.write(request)
        try:
            await self._waiting
        finally:
            timer.cancel()
            if not answer.done_at:  # the run is being cancelled
                self.abort()
        return answer

    def abort(self) -> None:
        """Drop the connection and what is on its way."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio's callbacks --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but the base class.
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        self.saw_bytes = True
        if self._waiting is None or self._waiting.done():
            self.abort()  # an answer to nothing, such as 408 to a connection that was idle for long
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("not HTTP")

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        # Without a length the body ends with the connection, as in HTTP/1.0.
        if self._has_head and not self._has_length and exc is None:
            self._done()
        else:
            self._fail("closed")

    # --- httptools' callbacks -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._has_length = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        self._has_head = self._answer.status >= 200

    def on_body(self, body: bytes) -> None:
        answer = self._answer
        if self._keep_body or (answer.status >= 300 and len(answer.body) < KEPT_BODY_BYTES):
            answer.body += body

    def on_message_complete(self) -> None:
        if not self._has_head:
            return  # 100 Continue: the answer is still to come
        assert self._transport is not None
        # A server that answers before it has read the request may close or may go on reading.
        if not self._parser.should_keep_alive() or self._transport.get_write_buffer_size():
            self.usable = False
            self._transport.close()
        self._done()

    # --- the end of a request -------------------------------------------------------------------

    def _done(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._answer.done_at = perf_counter()
            self._waiting.set_result(self._answer)

    def _fail(self, reason: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._answer.status, self._answer.failure = 0, reason
            self._done()
            self.abort()


class Connections:
    """The connections to one target: as many as there are requests on their way.

    Attributes:
        reopened: requests that were sent again, since the server had closed the connection meanwhile.
    """

    def __init__(self, target: Target, *, timeout_s: float) -> None:
        self.reopened = 0
        self._target = target
        self._timeout_s = timeout_s
        self._tls: ssl.SSLContext | None = target.tls
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()

    async def exchange(self, request: bytes, *, keep_body: bool = False) -> Answer:
        """Send ``request`` on an idle connection or a new one; the answer may be a failure."""
        connection = self._take()
        if connection is not None:
            answer = await self._send(connection, request, keep_body)
            # A server may close an idle connection at any time, also just as we use it.
            if answer.failure != "closed" or connection.saw_bytes:
                return answer
            self.reopened += 1
        sent_at = perf_counter()
        try:
            connection = await self._open()
        except (OSError, TimeoutError) as error:
            reason = "timed out" if isinstance(error, TimeoutError) else _reason(error)
            return Answer(0, "connect", reason.encode(), sent_at, perf_counter())
        answer = await self._send(connection, request, keep_body)
        answer.sent_at = sent_at
        return answer

    def close(self) -> None:
        """Drop all connections."""
        for connection in self._all:
            connection.abort()
        self._all.clear()
        self._idle.clear()

    async def _send(self, connection: Connection, request: bytes, keep_body: bool) -> Answer:
        answer = await connection.exchange(request, timeout_s=self._timeout_s, keep_body=keep_body)
        if connection.usable:
            self._idle.append(connection)
        else:
            self._all.discard(connection)
        return answer

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            self._all.discard(connection)
        return None

    async def _open(self) -> Connection:
        async with asyncio.timeout(self._timeout_s):
            _, connection = await asyncio.get_running_loop().create_connection(
                Connection, self._target.host, self._target.port, ssl=self._tls
            )
        self._all.add(connection)
        return connection


def _reason(error: OSError) -> str:
    """What went wrong, without the address that asyncio repeats."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)
