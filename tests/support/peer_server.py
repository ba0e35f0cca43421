"""A server of any kind, as a benchmark meets it: what it answers is the test's to say."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

PATIENCE_S = 20.0
"""How long what must come is waited for; only a failing test waits that long."""


@dataclass(frozen=True)
class Received:
    """One request as it came over the wire; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def reply(status: int, body: bytes | dict[str, object] = b"{}", **headers: str) -> bytes:
    """An answer of ``status``; a dict is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "".join(line + "\r\n" for line in lines).encode() + b"\r\n" + content


Respond = Callable[[Received], bytes | None]


def only_predicts(request: Received) -> bytes:
    """Answers images, and 404 to all else."""
    return reply(200 if request.method == "POST" else 404)


class PeerServer(socketserver.ThreadingTCPServer):
    """Answers with the bytes of ``respond``, one thread for a connection; None closes it.

    Attributes:
        received: all requests, in the order in which they came.
        connections: how many there were.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, respond: Respond) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.respond = respond
        self.received: list[Received] = []
        self.connections = 0
        self._came = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def images(self) -> list[Received]:
        """The requests that sent something."""
        return [request for request in self.received if request.method == "POST"]

    def came(self, request: Received) -> None:
        with self._came:
            self.received.append(request)
            self._came.notify_all()

    def wait_for_images(self, number: int) -> None:
        """Block until ``number`` images have come."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.images) >= number, PATIENCE_S)


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = cast(PeerServer, self.server)
        server.connections += 1
        try:
            while (request := self._read()) is not None:
                server.came(request)
                answer = server.respond(request)
                if answer is None:
                    return
                self.wfile.write(answer)
                if b"Connection: close" in answer or not answer.startswith(b"HTTP/1.1"):
                    return
        except OSError:
            return  # the client has left

    def _read(self) -> Received | None:
        first = self.rfile.readline().decode()
        if not first:
            return None
        method, path, _ = first.split(" ")
        headers = {}
        while (line := self.rfile.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", 0)))
        return Received(method, path, headers, body)


@contextmanager
def peer_server(respond: Respond = only_predicts) -> Iterator[PeerServer]:
    """Run a server until the end of the block."""
    with PeerServer(respond) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
