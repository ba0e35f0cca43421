"""Connections: kept, opened again, and every way in which no answer comes."""

import threading
from collections.abc import Callable
from time import perf_counter

import pytest
from peer_server import PATIENCE_S, PeerServer, Received, Respond, peer_server, reply

from service.bench.connection import KEPT_BODY_BYTES, Connections
from service.bench.target import Target

Peer = Callable[[Respond], PeerServer]

pytestmark = pytest.mark.anyio


def connections(url: str, timeout_s: float = PATIENCE_S) -> tuple[Connections, bytes]:
    target = Target("A", url)
    return Connections(target, timeout_s=timeout_s), target.get("/")


async def test_one_connection_carries_one_request_after_another(peer: Peer) -> None:
    server = peer(lambda request: reply(200, b"x" * 100_000))
    pool, request = connections(server.url)
    before = perf_counter()
    for _ in range(3):
        answer = await pool.exchange(request, keep_body=True)
        assert (answer.status, answer.failure, len(answer.body)) == (200, None, 100_000)
        assert before <= answer.sent_at <= answer.done_at <= perf_counter()
    assert server.connections == 1
    pool.close()


async def test_a_good_body_is_not_kept_and_a_bad_one_only_in_part(peer: Peer) -> None:
    server = peer(lambda request: reply(422 if "bad" in request.path else 200, b"x" * 1_000_000))
    pool, request = connections(server.url)
    assert (await pool.exchange(request)).body == b""
    bad = await pool.exchange(request.replace(b"GET /", b"GET /bad"))
    assert bad.status == 422
    assert KEPT_BODY_BYTES <= len(bad.body) < 1_000_000
    pool.close()


async def test_a_body_may_come_in_chunks_or_end_with_the_connection(peer: Peer) -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    to_the_end = b"HTTP/1.0 200 OK\r\n\r\nabcde"
    server = peer(lambda request: chunked if "chunked" in request.path else to_the_end)
    pool, request = connections(server.url)
    for path in (b"GET /chunked", b"GET /end"):
        answer = await pool.exchange(request.replace(b"GET /", path), keep_body=True)
        assert (answer.status, answer.failure, answer.body) == (200, None, b"abcde")
    pool.close()


async def test_an_interim_answer_is_not_the_answer(peer: Peer) -> None:
    server = peer(lambda request: b"HTTP/1.1 100 Continue\r\n\r\n" + reply(200))
    pool, request = connections(server.url)
    assert (await pool.exchange(request)).status == 200
    pool.close()


async def test_a_server_that_closes_after_each_answer_is_connected_anew(peer: Peer) -> None:
    server = peer(lambda request: reply(200, Connection="close"))
    pool, request = connections(server.url)
    for _ in range(3):
        assert (await pool.exchange(request)).status == 200
    assert server.connections == 3
    assert pool.reopened == 0
    pool.close()


async def test_a_connection_that_was_closed_meanwhile_is_opened_again(peer: Peer) -> None:
    seen: list[Received] = []

    def respond(request: Received) -> bytes | None:
        seen.append(request)
        return None if len(seen) == 2 else reply(200)

    pool, request = connections(peer(respond).url)
    assert (await pool.exchange(request)).status == 200
    assert (await pool.exchange(request)).status == 200  # closed on it, then sent again
    assert (len(seen), pool.reopened) == (3, 1)
    pool.close()


async def test_a_new_connection_that_is_closed_is_a_failure(peer: Peer) -> None:
    pool, request = connections(peer(lambda request: None).url)
    answer = await pool.exchange(request)
    assert (answer.status, answer.failure) == (0, "closed")
    pool.close()


async def test_an_answer_that_stops_short_is_a_failure(peer: Peer) -> None:
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nabc"
    pool, request = connections(peer(lambda request: short).url)
    answer = await pool.exchange(request)
    assert (answer.status, answer.failure) == (0, "closed")
    pool.close()


async def test_what_is_not_http_is_a_failure(peer: Peer) -> None:
    pool, request = connections(peer(lambda request: b"SSH-2.0-OpenSSH\r\n").url)
    answer = await pool.exchange(request)
    assert (answer.status, answer.failure) == (0, "not HTTP")
    pool.close()


async def test_no_answer_in_time_is_a_failure_and_its_connection_is_dropped(peer: Peer) -> None:
    go = threading.Event()

    def respond(request: Received) -> bytes:
        if not go.is_set():
            assert go.wait(PATIENCE_S)
        return reply(200)

    server = peer(respond)
    pool, request = connections(server.url, timeout_s=0.05)
    answer = await pool.exchange(request)
    assert (answer.status, answer.failure) == (0, "timeout")
    go.set()
    patient, request = connections(server.url)
    assert (await patient.exchange(request)).status == 200
    assert server.connections == 2
    pool.close()
    patient.close()


async def test_nobody_there_is_a_failure_with_its_reason() -> None:
    with peer_server() as server:
        url = server.url
    pool, request = connections(url)
    answer = await pool.exchange(request)
    assert (answer.status, answer.failure, answer.body) == (0, "connect", b"Connection refused")


async def test_a_host_that_does_not_exist_is_a_failure_with_its_reason() -> None:
    pool, request = connections("http://no-such-host.invalid")
    answer = await pool.exchange(request)
    assert (answer.status, answer.failure) == (0, "connect")
    assert answer.body
