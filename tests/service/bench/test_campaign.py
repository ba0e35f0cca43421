"""The whole benchmark: the order of its parts, and its end."""

import asyncio
from collections.abc import Callable

import pytest
from peer_server import PATIENCE_S, PeerServer, Received, reply

from service.bench.campaign import Result, run_campaign
from service.bench.errors import BenchError
from service.bench.images import BenchImage
from service.bench.level import Level, Plan
from service.bench.target import Target

Peer = Callable[..., PeerServer]

pytestmark = pytest.mark.anyio


def plan(*levels: Level, rounds: int = 1, requests: int = 5) -> Plan:
    return Plan(levels, warmup_s=0.0, requests=requests, rounds=rounds, timeout_s=PATIENCE_S)


async def run(
    servers: list[PeerServer],
    images: list[BenchImage],
    given: Plan,
    stop: asyncio.Event | None = None,
    shown: list[tuple[str, float]] | None = None,
) -> Result:
    targets = [Target("AB"[index], server.url) for index, server in enumerate(servers)]
    return await run_campaign(
        targets,
        images,
        given,
        stop=stop or asyncio.Event(),
        progress=lambda text, part: (shown if shown is not None else []).append((text, part)),
    )


async def test_every_level_is_measured_as_often_as_asked_for(peer: Peer, image: BenchImage) -> None:
    server = peer()
    levels = (Level("closed", 1), Level("closed", 2), Level("open", 1000.0))
    result = await run([server], [image], plan(*levels, rounds=2))
    [found] = result.targets
    assert tuple(level.level for level in found.levels) == levels
    for level in found.levels:
        assert [figures.outcomes for figures in level.rounds] == [{"200": 5}] * 2
        assert level.pooled.outcomes == {"200": 10}
    assert len(server.images) == 1 + 2 * 3 * 5  # and the first one
    assert not result.interrupted


async def test_two_targets_take_turns(peer: Peer, image: BenchImage) -> None:
    order: list[str] = []

    def named(name: str) -> Callable[[Received], bytes]:
        def respond(request: Received) -> bytes:
            if request.method == "POST":
                order.append(name)
            return reply(200 if request.method == "POST" else 404)

        return respond

    servers = [peer(named("a")), peer(named("b"))]
    shown: list[tuple[str, float]] = []
    await run(servers, [image], plan(Level("closed", 1), rounds=2, requests=3), shown=shown)
    assert "".join(order) == "ab" + "aaabbb" * 2
    assert [part for _, part in shown] == sorted(part for _, part in shown)
    assert "B: 1 client, round 2 of 2" in [text for text, _ in shown]


async def test_images_go_in_turn(peer: Peer, image: BenchImage) -> None:
    server = peer()
    other = BenchImage("b.png", b"another", "image/png", 1, 1)
    await run([server], [image, other], plan(Level("closed", 1), requests=4))
    sent = ["a.jpg" if image.data in request.body else "b.png" for request in server.images]
    assert sent == ["a.jpg", *["a.jpg", "b.png"] * 2]


async def test_an_interruption_keeps_what_there_is(peer: Peer, image: BenchImage) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def respond(request: Received) -> bytes:
        if len(server.images) == 12:
            loop.call_soon_threadsafe(stop.set)
        return reply(200 if request.method == "POST" else 404)

    server = peer(respond)
    levels = plan(Level("closed", 1), Level("closed", 2), Level("closed", 4), requests=1000)
    result = await run([server], [image], levels, stop)
    assert result.interrupted
    [level] = result.targets[0].levels
    assert level.pooled.outcomes["200"] >= 11


async def test_the_peak_is_the_level_of_most_images(peer: Peer, image: BenchImage) -> None:
    result = await run([peer()], [image], plan(Level("closed", 1), Level("closed", 2)))
    [found] = result.targets
    assert found.peak is not None
    rates = {level.pooled.images_per_s for level in found.levels}
    assert found.peak.images_per_s == max(rates)
    assert result.first_error is None


async def test_if_nothing_was_good_the_first_error_is_told(peer: Peer, image: BenchImage) -> None:
    def respond(request: Received) -> bytes:
        if request.method != "POST":
            return reply(404)
        return reply(200) if len(server.images) == 1 else reply(500, b"out of disk")

    server = peer(respond)
    result = await run([server], [image], plan(Level("closed", 1)))
    assert result.first_error == "500: out of disk"


async def test_without_images_there_is_nothing_to_measure(peer: Peer) -> None:
    with pytest.raises(BenchError, match="no image"):
        await run([peer()], [], plan(Level("closed", 1)))
