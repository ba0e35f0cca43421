"""Peers to be measured, and figures that were not."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from peer_server import PeerServer, Respond, only_predicts, peer_server

from service.bench.campaign import LevelResult, Result, TargetResult
from service.bench.figures import Figures
from service.bench.greeting import Greeting
from service.bench.images import BenchImage
from service.bench.level import Level, Plan
from service.bench.target import Target

Peer = Callable[..., PeerServer]
MakeFigures = Callable[..., Figures]
MakeResult = Callable[..., Result]


@pytest.fixture
def peer() -> Iterator[Peer]:
    """``peer(respond)``: a running server, ended behind the test."""
    with ExitStack() as stack:

        def start(respond: Respond = only_predicts) -> PeerServer:
            return stack.enter_context(peer_server(respond))

        yield start


@pytest.fixture
def image() -> BenchImage:
    return BenchImage("a.jpg", b"\xff\xd8 an image", "image/jpeg", 640, 480)


@pytest.fixture
def figures() -> MakeFigures:
    """``figures(level, answered=10, ...)``: ten good answers within a second unless told otherwise."""

    def make(level: Level | None = None, **given: Any) -> Figures:
        values = {
            "seconds": 1.0,
            "answered": 10,
            "latencies_s": tuple(n / 100 for n in range(1, 11)),
            "outcomes": Counter({"200": 10}),
            "unsent": 0,
            "lateness_s": 0.0,
            "client_cpu": 0.1,
            "server_cpu_s": None,
            "server_images": 10.0,
            "rss_bytes": None,
            "peak_bytes": None,
            "account": None,
            "reopened": 0,
        } | given
        return Figures(level=level or Level("closed", 1), **values)

    return make


@pytest.fixture
def result(image: BenchImage) -> MakeResult:
    """``result({"A": [[figures of a round, ...], ...]}, instances=..., ...)``: a finished benchmark."""

    def make(
        targets: dict[str, list[list[Figures]]],
        *,
        instances: list[int | None] | None = None,
        texts: dict[str, str] | None = None,
        interrupted: bool = False,
    ) -> Result:
        results = []
        for index, (name, levels) in enumerate(targets.items()):
            found = instances[index] if instances else 3
            results.append(
                TargetResult(
                    Target(name, "http://127.0.0.1:8000"),
                    Greeting(True, {"version": "0.1.0", "torch": "2.14.1"}, [], found, 100),
                    [LevelResult(rounds[0].level, rounds) for rounds in levels],
                    texts or {},
                )
            )
        plan = Plan(tuple(level.level for level in results[0].levels))
        return Result(plan, [image], results, interrupted)

    return make
