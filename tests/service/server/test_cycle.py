"""GatheringCycle: in which pieces the app gets a body that comes over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send

from service.server import cycle

pytestmark = pytest.mark.anyio
Listening = Callable[..., AbstractAsyncContextManager[int]]
PATIENCE_S = 10.0


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: they differ in how they read."""
    return "asyncio", {"use_uvloop": request.param}


class App:
    """Takes bodies, and notes in which pieces; reads on when ``go`` is set."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.got_piece = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            await self.go.wait()
            message = await receive()
            assert message["type"] == "http.request"
            self.pieces.append(message["body"])
            self.got_piece.set()
            if not message["more_body"]:
                break
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
        )
        await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def answered(reader: asyncio.StreamReader) -> bool:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    return head.startswith(b"HTTP/1.1 200") and await reader.readexactly(2) == b"ok"


def head(length: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % length


async def test_a_body_that_comes_in_parts_is_handed_over_whole(listening: Listening) -> None:
    app, body = App(), bytes(range(256)) * 1000
    async with listening(app) as port, connected(port) as (reader, writer):
        for _ in range(2):
            writer.write(head(len(body)))
            for start in range(0, len(body), 50_000):
                writer.write(body[start : start + 50_000])
                await writer.drain()
            assert await answered(reader)
    assert app.pieces == [body, body]


async def test_an_empty_body_is_one_empty_piece(listening: Listening) -> None:
    app = App()
    async with listening(app) as port, connected(port) as (reader, writer):
        writer.write(head(0))
        assert await answered(reader)
    assert app.pieces == [b""]


async def test_the_app_hears_of_a_body_that_comes_slowly(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cycle, "PROGRESS_S", 0.0)
    app = App()
    async with listening(app) as port, connected(port) as (reader, writer):
        writer.write(head(8) + b"half")
        await asyncio.wait_for(app.got_piece.wait(), PATIENCE_S)
        assert app.pieces == [b"half"]
        writer.write(b"rest")
        assert await answered(reader)
    assert app.pieces == [b"half", b"rest"]


async def test_a_body_without_a_declared_length_is_not_waited_for(listening: Listening) -> None:
    app, part = App(), b"x" * cycle.UNDECLARED_BYTES
    async with listening(app) as port, connected(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        await asyncio.wait_for(app.got_piece.wait(), PATIENCE_S)
        writer.write(b"4\r\nrest\r\n0\r\n\r\n")
        assert await answered(reader)
    assert b"".join(app.pieces) == part + b"rest"


async def test_a_large_body_waits_in_the_network_and_not_in_memory(listening: Listening) -> None:
    app, body = App(), bytes(range(256)) * 100_000
    app.go.clear()
    async with listening(app) as port, connected(port) as (reader, writer):
        writer.write(head(len(body)))
        writer.write(body)
        app.go.set()
        assert await answered(reader)
    assert b"".join(app.pieces) == body
    # One read of the socket at most comes on top.
    assert max(map(len, app.pieces)) <= cycle.GATHERED_BYTES + 2**18


async def test_a_body_that_is_asked_for_is_announced_as_welcome(listening: Listening) -> None:
    app = App()
    async with listening(app) as port, connected(port) as (reader, writer):
        writer.write(head(4).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        line = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        assert line == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        assert await answered(reader)
    assert app.pieces == [b"body"]
