"""A web server of a test's own, and a network in which public names lead to it."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from service.uploads.remote import Network, RemoteLimits

PUBLIC, OTHER_PUBLIC = "93.184.215.14", "93.184.215.15"
NAME = "pictures.example"
_PEM = Path(__file__).parent.parent / "data" / "tls" / f"{NAME}.pem"

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def http(
    status: int = 200,
    body: bytes = b"",
    length: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """An answer as it goes over the wire."""
    given = {"Content-Length": str(len(body) if length is None else length)} | dict(headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status} Reason\r\n{lines}\r\n".encode() + body


class RemoteServer:
    """Answers paths as the test says, over TLS as ``pictures.example`` or in the clear.

    Attributes:
        answers: by path; anything else is 404.
        heads: of the requests that came.
        port: where it listens, on this machine.
    """

    def __init__(self, *, tls: bool = True) -> None:
        self.answers: dict[str, Answer] = {}
        self.heads: list[str] = []
        self.port = 0
        self._tls = tls
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "RemoteServer":
        context = None
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(_PEM)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            answer = self.answers.get(head.split()[1], http(404))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left, as it may
        finally:
            writer.close()


class Reroute(httpx.AsyncHTTPTransport):
    """Connects to a local port whatever the address; notes which it was asked for."""

    def __init__(self, port: int, asked: list[str], verify: Any) -> None:
        super().__init__(verify=verify, trust_env=False)
        self._port, self._asked = port, asked

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._asked.append(f"{request.url.host}:{request.url.port or request.url.scheme}")
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return await super().handle_async_request(request)


class FakeNetwork(Network):
    """Names are those of ``names``; every address leads to the one server.

    Attributes:
        names: the addresses of each, in the order in which they are asked for: the last one stays.
        resolved: the names that were asked for.
        asked: the addresses that were connected to.
    """

    def __init__(self, server: RemoteServer, *, trusting: bool = True) -> None:
        self.names: dict[str, list[Sequence[str]]] = {NAME: [[PUBLIC]]}
        self.resolved: list[str] = []
        self.asked: list[str] = []
        context = ssl.create_default_context()
        if trusting:
            context.load_verify_locations(_PEM)
        super().__init__(
            resolve=self._look_up, transport=lambda: Reroute(server.port, self.asked, context)
        )

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        self.resolved.append(host)
        if host not in self.names:
            raise OSError("unknown name")
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


def limits_of(network: Network, **changes: Any) -> RemoteLimits:
    """The defaults, on ``network``."""
    return RemoteLimits(network=network, **changes)
