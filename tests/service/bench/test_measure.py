"""One level on one target: warm-up, window, drain, and both sides' figures."""

import asyncio
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peer_server import PATIENCE_S, PeerServer, Received, Respond, only_predicts, reply

from service.bench.figures import figures_of
from service.bench.images import BenchImage
from service.bench.level import Level, Plan
from service.bench.measure import Window, measure
from service.bench.target import Target

Peer = Callable[..., PeerServer]

pytestmark = pytest.mark.anyio

METRICS = """\
# TYPE detserve_predictions counter
detserve_predictions_total{{model="m",version="1",outcome="ok"}} {images}
# TYPE process_cpu_seconds counter
process_cpu_seconds_total {cpu}
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 5e8
"""


async def run(
    server: PeerServer,
    image: BenchImage,
    level: Level,
    *,
    stop: asyncio.Event | None = None,
    scrapes: bool = False,
    pid: int | None = None,
    ticks: list[float] | None = None,
    **plan: Any,
) -> Window:
    target = Target("A", server.url, pid=pid)
    plan = {"timeout_s": PATIENCE_S, "warmup_s": 0.0} | plan
    return await measure(
        target,
        level,
        Plan((level,), **plan),
        itertools.repeat(target.predict(image)),
        stop=stop or asyncio.Event(),
        scrapes=scrapes,
        tick=(ticks if ticks is not None else []).append,
    )


@pytest.mark.parametrize("level", [Level("closed", 3), Level("open", 500.0)])
async def test_so_many_requests_are_measured_as_were_asked_for(
    peer: Peer, image: BenchImage, level: Level
) -> None:
    server, ticks = peer(), list[float]()
    figures = figures_of(level, await run(server, image, level, requests=40, ticks=ticks))
    assert figures.outcomes == {"200": 40}
    assert figures.answered == len(figures.latencies_s) == len(server.images) == 40
    assert figures.seconds > 0
    assert all(0 <= part <= 1 for part in ticks)


async def test_a_window_lasts_as_long_as_was_asked_for(peer: Peer, image: BenchImage) -> None:
    window = await run(peer(), image, Level("closed", 1), duration_s=0.2)
    assert window.seconds >= 0.2
    figures = figures_of(Level("closed", 1), window)
    assert figures.outcomes["200"] == figures.outcomes.total() > 0
    assert window.client_cpu_s > 0


async def test_the_warm_up_is_offered_and_not_counted(peer: Peer, image: BenchImage) -> None:
    server = peer()
    level = Level("closed", 2)
    window = await run(server, image, level, warmup_s=0.1, requests=10)
    figures = figures_of(level, window)
    assert figures.outcomes.total() == 10
    assert len(server.images) > 10
    assert min(sample.due_at for sample in window.recording.samples) < window.start


async def test_the_warm_up_waits_for_a_first_answer(peer: Peer, image: BenchImage) -> None:
    slow = threading.Event()

    def respond(request: Received) -> bytes:
        if len(server.images) == 1:
            slow.wait(0.3)
        return reply(200)

    server = peer(respond)
    window = await run(server, image, Level("closed", 1), warmup_s=0.01, requests=1)
    assert window.recording.samples[0].done_at <= window.start


async def test_what_was_sent_in_the_window_is_waited_for(peer: Peer, image: BenchImage) -> None:
    go = threading.Event()

    def respond(request: Received) -> bytes:
        assert go.wait(PATIENCE_S)
        return reply(200)

    server = peer(respond)
    level = Level("open", 200.0)
    threading.Timer(0.5, go.set).start()
    figures = figures_of(level, await run(server, image, level, duration_s=0.2))
    assert figures.outcomes["200"] == len(server.images) > 0
    assert figures.answered == 0  # none of the answers came within the window
    assert min(figures.latencies_s) > 0.2


async def test_an_interruption_ends_the_window(peer: Peer, image: BenchImage) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def respond(request: Received) -> bytes:
        if len(server.images) == 20:
            loop.call_soon_threadsafe(stop.set)
        return reply(200)

    server = peer(respond)
    for plan in ({"duration_s": 1000.0}, {"requests": 10**9}):
        stop.clear()
        server.received.clear()
        window = await run(server, image, Level("closed", 1), stop=stop, **plan)
        assert len(window.recording.samples) >= 20
        assert window.end > window.start


async def test_an_interruption_does_not_wait_for_a_server_that_hangs(
    peer: Peer, image: BenchImage
) -> None:
    stop, never = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def respond(request: Received) -> bytes:
        loop.call_soon_threadsafe(stop.set)
        assert never.wait(PATIENCE_S)
        return reply(200)

    window = await run(peer(respond), image, Level("closed", 1), stop=stop, duration_s=1000.0)
    assert window.recording.samples == []
    never.set()


async def test_the_server_accounts_for_the_window(peer: Peer, image: BenchImage) -> None:
    def respond(request: Received) -> bytes:
        if request.path == "/metrics":
            text = METRICS.format(images=7 + len(server.images), cpu=3.0 + len(server.images) / 4)
            return reply(200, text.encode())
        return reply(200)

    server = peer(respond)
    level = Level("closed", 1)
    figures = figures_of(level, await run(server, image, level, requests=8, scrapes=True))
    assert figures.account is not None
    # By its own count; what was on its way at the first look may be among them.
    assert figures.account.images == figures.server_images
    assert figures.server_images in (8, 9)
    assert figures.cpu_ms_per_image == pytest.approx(250)
    assert (figures.rss_bytes, figures.peak_bytes) == (500_000_000, None)


async def test_metrics_that_cannot_be_read_are_unknown(peer: Peer, image: BenchImage) -> None:
    server = peer(only_predicts)
    level = Level("closed", 1)
    window = await run(server, image, level, requests=2, scrapes=True)
    assert window.account is None
    assert figures_of(level, window).cpu_ms_per_image is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux has /proc")
async def test_a_local_process_is_looked_at(peer: Peer, image: BenchImage) -> None:
    level = Level("closed", 1)
    figures = figures_of(level, await run(peer(), image, level, requests=2, pid=os.getpid()))
    assert figures.server_cpu_s is not None
    assert figures.cpu_ms_per_image is not None
    assert (figures.rss_bytes or 0) <= (figures.peak_bytes or 0)


async def test_a_server_that_goes_away_is_a_failure_of_each_request(
    peer: Peer, image: BenchImage
) -> None:
    respond: Respond = lambda request: None  # noqa: E731  # a name for the type
    level = Level("closed", 1)
    figures = figures_of(level, await run(peer(respond), image, level, requests=3))
    assert figures.outcomes == {"closed": 3}
    assert figures.latency is None
    assert figures.images_per_s == 0
