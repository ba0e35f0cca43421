"""The guarded protocol, spoken to over raw sockets."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import ApiError
from service.middleware import RequestContextMiddleware, RequestRecord
from service.server.runner import DrainState
from service.uploads import UploadLimits, read_body

pytestmark = pytest.mark.anyio
Listening = Callable[..., AbstractAsyncContextManager[int]]
GET = b"GET /%s HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\n"


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: they differ in how they read and close."""
    return "asyncio", {"use_uvloop": request.param}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the path, the body and the names of the headers."""
    request = Request(scope, receive)
    body = await request.body()
    names = ",".join(request.headers.keys())
    await Response(request.url.path.encode() + b"|" + body + b"|" + names.encode())(
        scope, receive, send
    )


class Connection:
    """A client's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def send_on_and_on(self, part: bytes) -> None:
        while True:
            await self.send(part)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body by Content-Length."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        status, *lines = head.decode().strip().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(status.split()[1]), headers, body

    async def refusal(self) -> tuple[int, str]:
        """The next answer as status and error code, the connection's end after it checked."""
        status, headers, body = await self.answer()
        error = json.loads(body)["error"]
        assert headers["connection"] == "close"
        assert headers["x-request-id"] == error["request_id"]
        assert await self.ended()
        return status, error["code"]

    async def ended(self) -> bool:
        """Whether the server says nothing more."""
        rest = await asyncio.wait_for(self.reader.read(), 10)
        self.writer.close()
        return rest == b""


Connect = Callable[[int], Awaitable[Connection]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens connections, and closes them after the test."""
    writers: list[asyncio.StreamWriter] = []

    async def open_one(port: int) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return Connection(reader, writer)

    yield open_one
    for writer in writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


# Heads


async def test_one_endless_header_is_431(listening: Listening, connect: Connect) -> None:
    async with listening(echo) as port:
        client = await connect(port)
        await client.send(b"GET / HTTP/1.1\r\nX: ", *[b"x" * 1000] * 33)
        assert await client.refusal() == (431, "headers_too_large")


async def test_many_complete_headers_are_431(listening: Listening, connect: Connect) -> None:
    async with listening(echo) as port:
        client = await connect(port)
        await client.send(b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 6000 + b"\r\n")
        assert await client.refusal() == (431, "headers_too_large")


async def test_endless_url_is_431(listening: Listening, connect: Connect) -> None:
    async with listening(echo) as port:
        client = await connect(port)
        await client.send(b"GET /" + b"x" * 33_000)
        assert await client.refusal() == (431, "headers_too_large")


async def test_head_below_the_limit_is_served(listening: Listening, connect: Connect) -> None:
    async with listening(echo) as port:
        client = await connect(port)
        await client.send(b"GET / HTTP/1.1\r\nX: ", *[b"x" * 1000] * 31, b"\r\n\r\n")
        assert (await client.answer())[0] == 200


async def test_limit_is_per_request_not_per_connection(
    listening: Listening, connect: Connect
) -> None:
    async with listening(echo) as port:
        client = await connect(port)
        for _ in range(4):
            await client.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")
            assert (await client.answer())[0] == 200


async def test_slow_head_is_408(listening: Listening, connect: Connect) -> None:
    async with listening(echo, head_timeout_s=0.05) as port:
        client = await connect(port)
        await client.send(b"GET / HTTP/1.1\r\n")
        assert await client.refusal() == (408, "request_timeout")


async def test_head_that_only_drips_newlines_is_408(listening: Listening, connect: Connect) -> None:
    async with listening(echo, head_timeout_s=0.05) as port:
        client = await connect(port)
        await client.send(b"\r\n")
        assert await client.refusal() == (408, "request_timeout")


async def test_slow_head_of_a_later_request_is_408(listening: Listening, connect: Connect) -> None:
    async with listening(echo, head_timeout_s=0.05) as port:
        client = await connect(port)
        await client.send(GET % b"first")
        assert (await client.answer())[0] == 200
        await client.send(b"GET /second")
        assert await client.refusal() == (408, "request_timeout")


async def test_silent_connection_is_closed_without_a_word(
    listening: Listening, connect: Connect
) -> None:
    async with listening(echo, head_timeout_s=0.05) as port:
        assert await (await connect(port)).ended()


async def test_idle_time_between_requests_does_not_count(
    listening: Listening, connect: Connect
) -> None:
    async with listening(echo, head_timeout_s=0.02) as port:
        client = await connect(port)
        for _ in range(2):
            await client.send(GET % b"x")
            assert (await client.answer())[0] == 200
            await asyncio.sleep(0.05)


async def test_slow_answer_does_not_count_against_the_next_head(
    listening: Listening, connect: Connect
) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.1)
        await PlainTextResponse("done")(scope, receive, send)

    async with listening(slow, head_timeout_s=0.03) as port:
        client = await connect(port)
        await client.send(GET % b"1" + b"GET /2 HTTP/1.1\r\n")
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1e3\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
    ],
)
async def test_malformed_request_is_400(
    listening: Listening, connect: Connect, head: bytes
) -> None:
    async with listening(echo) as port:
        client = await connect(port)
        await client.send(head)
        assert await client.refusal() == (400, "malformed_request")


# Keep-alive and pipelining


async def test_connection_serves_many_requests(listening: Listening, connect: Connect) -> None:
    async with listening(echo) as port:
        client = await connect(port)
        for i in range(3):
            await client.send(POST + b"Content-Length: 4\r\n\r\nbod%d" % i)
            status, headers, body = await client.answer()
            assert (status, body.split(b"|")[1]) == (200, b"bod%d" % i)
            assert "connection" not in headers


async def test_pipelined_requests_are_answered_in_order(
    listening: Listening, connect: Connect
) -> None:
    async with listening(echo) as port:
        client = await connect(port)
        await client.send(b"".join(GET % str(i).encode() for i in range(5)))
        paths = [(await client.answer())[2].split(b"|")[0] for _ in range(5)]
        assert paths == [b"/0", b"/1", b"/2", b"/3", b"/4"]


async def test_malformed_pipelined_request_spares_the_one_before(
    listening: Listening, connect: Connect
) -> None:
    async with listening(echo) as port:
        client = await connect(port)
        await client.send(GET % b"good" + b"nonsense\r\n\r\n")
        status, _, body = await client.answer()
        assert (status, body.split(b"|")[0]) == (200, b"/good")
        assert await client.ended()


async def test_upgrade_is_answered_as_plain_http(listening: Listening, connect: Connect) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    async with listening(echo) as port:
        client = await connect(port)
        await client.send(POST + upgrade + b"Content-Length: 2\r\n\r\nh", b"i")
        status, headers, body = await client.answer()
        assert (status, body) == (200, b"/|hi|host,content-length")
        assert "connection" not in headers
        await client.send(GET % b"next")
        assert (await client.answer())[0] == 200


async def test_connect_is_400(listening: Listening, connect: Connect) -> None:
    async with listening(echo) as port:
        client = await connect(port)
        await client.send(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n")
        assert await client.refusal() == (400, "malformed_request")


async def test_draining_server_asks_clients_to_leave(
    listening: Listening, connect: Connect
) -> None:
    state = DrainState()
    async with listening(echo, state) as port:
        client = await connect(port)
        await client.send(GET % b"a")
        assert "connection" not in (await client.answer())[1]
        state.draining = True
        await client.send(GET % b"b")
        assert (await client.answer())[1]["connection"] == "close"
        assert await client.ended()


# Bodies


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


async def test_body_of_tiny_chunks_arrives_whole(listening: Listening, connect: Connect) -> None:
    async with listening(echo) as port:
        client = await connect(port)
        await client.send(CHUNKED, b"1\r\nx\r\n" * 100_000, b"0\r\n\r\n")
        _, _, body = await client.answer()
        assert body.split(b"|")[1] == b"x" * 100_000


async def test_trailers_do_not_become_headers(listening: Listening, connect: Connect) -> None:
    async with listening(echo) as port:
        client = await connect(port)
        await client.send(CHUNKED + b"1\r\nx\r\n0\r\nX-Admin-Token: forged\r\n\r\n")
        _, _, body = await client.answer()
        assert body == b"/|x|host,transfer-encoding"


@pytest.mark.parametrize("endless", [b"1\r\nx\r\n0\r\nX: ", b"1\r\nx\r\n0\r\n", b"1;extension="])
async def test_endless_trailers_and_extensions_are_431(
    listening: Listening, connect: Connect, endless: bytes
) -> None:
    filler = b"A: 1\r\n" if endless.endswith(b"0\r\n") else b"xxxxxx"
    async with listening(echo) as port:
        client = await connect(port)
        await client.send(CHUNKED, endless, *[filler * 1000] * 60)
        assert await client.refusal() == (431, "headers_too_large")


async def test_malformed_chunk_is_400_and_the_app_sees_a_disconnect(
    listening: Listening, connect: Connect
) -> None:
    ended: asyncio.Queue[str] = asyncio.Queue()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        while message["type"] == "http.request" and message["more_body"]:
            message = await receive()
        ended.put_nowait(message["type"])

    async with listening(app) as port:
        client = await connect(port)
        await client.send(CHUNKED + b"1\r\nx\r\nnot a size\r\n")
        assert await client.refusal() == (400, "malformed_request")
        assert await asyncio.wait_for(ended.get(), 10) == "http.disconnect"


def limited(max_body_bytes: int, records: list[RequestRecord]) -> ASGIApp:
    """An app that reads bodies of at most ``max_body_bytes``."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(Request(scope, receive), UploadLimits(max_body_bytes=max_body_bytes))
        await PlainTextResponse("read")(scope, receive, send)

    return RequestContextMiddleware(app, observe=records.append)


async def test_declared_body_over_the_limit_is_413_before_it_is_sent(
    listening: Listening, connect: Connect
) -> None:
    records: list[RequestRecord] = []
    async with listening(limited(1000, records)) as port:
        client = await connect(port)
        await client.send(POST + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
        assert await client.refusal() == (413, "body_too_large")
    assert records[0].request_bytes == 0


async def test_chunked_body_over_the_limit_is_413_and_not_read_on(
    listening: Listening, connect: Connect
) -> None:
    records: list[RequestRecord] = []
    async with listening(limited(100_000, records)) as port:
        client = await connect(port)
        await client.send(CHUNKED, *[b"1000\r\n" + b"x" * 4096 + b"\r\n"] * 40)
        assert await client.refusal() == (413, "body_too_large")
    # uvicorn hands on what has gathered meanwhile, up to one read of the socket.
    assert records[0].request_bytes < 400_000


async def test_client_that_keeps_sending_still_hears_the_413(
    listening: Listening, connect: Connect
) -> None:
    async with listening(limited(1000, [])) as port:
        client = await connect(port)
        await client.send(POST + b"Content-Length: 20000000\r\n\r\n", *[b"x" * 100_000] * 200)
        assert await client.refusal() == (413, "body_too_large")


async def test_client_that_never_stops_sending_is_cut_off(
    listening: Listening, connect: Connect
) -> None:
    async with listening(limited(1000, []), linger_s=0.05) as port:
        client = await connect(port)
        await client.send(CHUNKED)
        with pytest.raises(ConnectionError):
            await client.send_on_and_on(b"1000\r\n" + b"x" * 4096 + b"\r\n")


async def test_client_that_leaves_within_its_body_leaves_no_traceback(
    listening: Listening, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ApiError):
            await read_body(Request(scope, receive), UploadLimits())
        seen.put_nowait(1)

    with caplog.at_level(logging.INFO):
        async with listening(app) as port:
            client = await connect(port)
            await client.send(POST + b"Content-Length: 1000\r\n\r\nhalf")
            client.writer.close()
            await asyncio.wait_for(seen.get(), 10)
    assert "Traceback" not in caplog.text
