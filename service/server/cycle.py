"""One request and its answer on a connection: uvicorn's, with a body that comes in few pieces."""

from __future__ import annotations

from time import monotonic
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

GATHERED_BYTES = 1024 * 1024
"""So much of a body whose length is declared waits for the app; then the connection is not read on."""

UNDECLARED_BYTES = 64 * 1024
"""The same of a body whose length nobody knows: it may turn out to be too long at any time."""

PROGRESS_S = 1.0
"""So often at least the app hears of a body that is still on its way, to judge how fast it comes."""


class GatheringCycle(RequestResponseCycle):
    """Hands a body to the app whole, if it is not too large and not too slow.

    uvicorn wakes the app and stops reading for every 64 kB, and copies each of them three times. A
    photograph has many of those, and each wake-up costs as much as handling a small request.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._chunks: list[bytes] = []
        self._waiting_bytes = 0
        self._told_at = monotonic()
        declared = any(name == b"content-length" for name, _ in self.scope["headers"])
        self._most_bytes = GATHERED_BYTES if declared else UNDECLARED_BYTES

    def add_body(self, chunk: bytes) -> None:
        """Keep a part of the body that has arrived, and wake the app when it is time to."""
        self._chunks.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes >= self._most_bytes:
            self.flow.pause_reading()
            self.message_event.set()
        elif monotonic() - self._told_at >= PROGRESS_S:
            self.message_event.set()

    def end_body(self) -> None:
        """The body is all there."""
        self.more_body = False
        self.message_event.set()

    async def receive(self) -> Any:
        """ASGI's ``receive``: a part of the body, or that the client has left."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        self._told_at = monotonic()
        # Joining one chunk alone copies nothing.
        body = b"".join(self._chunks)
        self._chunks.clear()
        self._waiting_bytes = 0
        return {"type": "http.request", "body": body, "more_body": self.more_body}
