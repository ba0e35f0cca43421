"""Closed and open loops: who sends when, and what is written down."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable
from time import perf_counter

import pytest
from peer_server import PATIENCE_S, PeerServer, Received, Respond, reply

from service.bench.connection import Connections
from service.bench.level import Level, Plan
from service.bench.load import ClosedLoop, OpenLoop, arrival_gaps, load_for, wait_for
from service.bench.recording import Recording
from service.bench.target import Target

Peer = Callable[[Respond], PeerServer]
Pool = Callable[[PeerServer], Connections]

pytestmark = pytest.mark.anyio


class Gate:
    """A server's answer that waits until it is opened; it knows how many wait at most."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = self.most_inside = 0
        self._lock = threading.Lock()

    def __call__(self, request: Received) -> bytes:
        with self._lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        assert self.open.wait(PATIENCE_S)
        with self._lock:
            self.inside -= 1
        return reply(200)


@pytest.fixture
async def pool() -> AsyncIterator[Callable[[PeerServer], Connections]]:
    """``pool(server)``: connections that are closed behind the test."""
    opened: list[Connections] = []

    def connect(server: PeerServer) -> Connections:
        opened.append(Connections(Target("A", server.url), timeout_s=PATIENCE_S))
        return opened[-1]

    yield connect
    for connections in opened:
        connections.close()
    await asyncio.sleep(0)


REQUEST = Target("A", "http://127.0.0.1").get("/")


async def test_a_closed_loop_has_so_many_requests_on_their_way_and_no_more(
    peer: Peer, pool: Pool
) -> None:
    gate, recording = Gate(), Recording()
    server = peer(gate)
    load = ClosedLoop(pool(server), itertools.repeat(REQUEST), recording, clients=3)
    load.quota = 12
    running = asyncio.create_task(load.run())
    while gate.inside < 3:
        await asyncio.sleep(0)
    gate.open.set()
    await running
    assert gate.most_inside == 3
    assert [sample.outcome for sample in recording.samples] == ["200"] * 12
    assert server.connections == 3


async def test_a_closed_loop_goes_on_until_it_is_stopped(peer: Peer, pool: Pool) -> None:
    recording = Recording()
    answered = 0

    def respond(request: Received) -> bytes:
        nonlocal answered
        answered += 1
        if answered == 50:
            loop.call_soon_threadsafe(load.stop)
        return reply(200)

    loop = asyncio.get_running_loop()
    load = ClosedLoop(pool(peer(respond)), itertools.repeat(REQUEST), recording, clients=1)
    await load.run()
    assert len(recording.samples) == answered >= 50


async def test_requests_come_in_turn(peer: Peer, pool: Pool) -> None:
    server = peer(lambda request: reply(200))
    requests = itertools.cycle([Target("A", "http://h").get(path) for path in ("/a", "/b", "/c")])
    load = ClosedLoop(pool(server), requests, Recording(), clients=1)
    load.quota = 5
    await load.run()
    assert [request.path for request in server.received] == ["/a", "/b", "/c", "/a", "/b"]


async def test_refusals_and_errors_are_written_down_with_their_first_text(
    peer: Peer, pool: Pool
) -> None:
    answers = iter([reply(429, b"full"), reply(500, b"first"), reply(500, b"second"), reply(200)])
    recording = Recording()
    server = peer(lambda request: next(answers))
    load = ClosedLoop(pool(server), itertools.repeat(REQUEST), recording, clients=1)
    load.quota = 4
    await load.run()
    assert [sample.outcome for sample in recording.samples] == ["429", "500", "500", "200"]
    assert recording.texts == {"429": "full", "500": "first"}


async def test_an_open_loop_sends_whether_or_not_it_is_answered(peer: Peer, pool: Pool) -> None:
    gate, recording = Gate(), Recording()
    server = peer(gate)
    load = OpenLoop(
        pool(server),
        itertools.repeat(REQUEST),
        recording,
        gaps=itertools.repeat(0.001),
        max_outstanding=100,
    )
    load.quota = 8
    running = asyncio.create_task(load.run())
    while gate.inside < 8:
        await asyncio.sleep(0)
    gate.open.set()
    await running
    assert len(recording.samples) == 8
    assert recording.unsent == []


async def test_latency_counts_from_when_a_request_was_due(peer: Peer, pool: Pool) -> None:
    recording = Recording()
    started = perf_counter()
    # All are due at once, so whatever is sent later is late.
    load = OpenLoop(
        pool(peer(lambda request: reply(200))),
        itertools.repeat(REQUEST),
        recording,
        gaps=itertools.repeat(0.0),
        max_outstanding=100,
    )
    load.quota = 5
    await load.run()
    assert len({sample.due_at for sample in recording.samples}) == 1
    for sample in recording.samples:
        assert started <= sample.due_at <= sample.sent_at <= sample.done_at
        assert sample.latency_s == sample.done_at - sample.due_at


async def test_what_is_over_the_bound_is_not_sent_and_counted(peer: Peer, pool: Pool) -> None:
    gate, recording = Gate(), Recording()
    server = peer(gate)
    load = OpenLoop(
        pool(server),
        itertools.repeat(REQUEST),
        recording,
        gaps=itertools.repeat(0.0),
        max_outstanding=2,
    )
    load.quota = 7
    running = asyncio.create_task(load.run())
    while load.quota:
        await asyncio.sleep(0)
    gate.open.set()
    await running
    assert len(recording.unsent) == 5
    assert len(recording.samples) == len(server.received) == 2


async def test_an_open_loop_ends_when_it_is_stopped(peer: Peer, pool: Pool) -> None:
    load = OpenLoop(
        pool(peer(lambda request: reply(200))),
        itertools.repeat(REQUEST),
        Recording(),
        gaps=itertools.repeat(1000.0),
        max_outstanding=1,
    )
    running = asyncio.create_task(load.run())
    load.stop()
    await asyncio.wait_for(running, PATIENCE_S)


async def test_a_level_says_which_load_it_is(peer: Peer, pool: Pool) -> None:
    server = peer(lambda request: reply(200))
    for level, kind in ((Level("closed", 2), ClosedLoop), (Level("open", 2), OpenLoop)):
        load = load_for(level, Plan((level,)), pool(server), itertools.repeat(REQUEST), Recording())
        assert isinstance(load, kind)


def test_uniform_arrivals_are_even() -> None:
    assert list(itertools.islice(arrival_gaps(4.0, "uniform", 0), 3)) == [0.25] * 3


def test_poisson_arrivals_have_their_rate_and_their_scatter() -> None:
    gaps = list(itertools.islice(arrival_gaps(20.0, "poisson", 1), 20_000))
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(0.05, rel=0.03)
    assert deviation == pytest.approx(0.05, rel=0.05)  # as large as the mean: exponential


def test_arrivals_are_the_same_for_the_same_seed() -> None:
    first, again, other = (
        list(itertools.islice(arrival_gaps(20.0, "poisson", seed), 5)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


async def test_waiting_ends_with_the_event_or_the_time() -> None:
    event = asyncio.Event()
    assert not await wait_for(event, 0.0)
    assert not await wait_for(event, 0.001)
    asyncio.get_running_loop().call_soon(event.set)
    assert await wait_for(event, PATIENCE_S)
    assert await wait_for(event, 0.0)
