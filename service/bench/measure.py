"""Measures one level on one target: warm-up, then a window with a look at both sides at its ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

from service.bench.connection import Connections
from service.bench.level import Level, Plan
from service.bench.load import Load, load_for, wait_for
from service.bench.process_usage import ProcessUsage, process_usage
from service.bench.recording import Recording
from service.bench.server_metrics import Account, Scrape
from service.bench.target import Target

METRICS_PATH = "/metrics"
_TICK_S = 0.2
_HASTY_DRAIN_S = 1.0

Tick = Callable[[float], None]
"""Told from time to time which part of a window has passed, 0 to 1."""


@dataclass(frozen=True)
class Window:
    """One level on one target, once.

    Attributes:
        recording: all requests, those of the warm-up too.
        start, end: of the window, on the clock of ``time.perf_counter``.
        client_cpu_s: CPU time of this process between them.
        account: the server's own figures, if it has them.
        usage_before, usage_after: of the server's process, if it is known.
        reopened: requests that were sent again on a new connection.
    """

    recording: Recording
    start: float
    end: float
    client_cpu_s: float
    account: Account | None
    usage_before: ProcessUsage | None
    usage_after: ProcessUsage | None
    reopened: int

    @property
    def seconds(self) -> float:
        """How long the window was."""
        return self.end - self.start


async def measure(
    target: Target,
    level: Level,
    plan: Plan,
    requests: Iterator[bytes],
    *,
    stop: asyncio.Event,
    scrapes: bool,
    tick: Tick,
) -> Window:
    """Offer ``level`` to ``target`` and watch. ``stop`` ends the window early.

    The load goes on from the warm-up into the window, so that the window sees a steady state. A
    request belongs to the window in which it was due, and is waited for after its end.

    Args:
        scrapes: whether the target has ``/metrics``.
    """
    recording = Recording()
    connections = Connections(target, timeout_s=plan.timeout_s)
    load = load_for(level, plan, connections, requests, recording)
    probe = _Probe(target, scrapes=scrapes)
    running = asyncio.create_task(load.run())
    try:
        await _warm_up(recording, plan, running, stop)
        before = await probe.read()
        cpu, start = time.process_time(), perf_counter()
        if plan.requests is None:
            end = await _for_a_time(plan.duration_s, running, stop, start, tick)
            load.stop()
        else:
            end = await _for_requests(plan.requests, load, running, stop, recording, tick)
        client_cpu_s = time.process_time() - cpu
        after = await probe.read()
        await _drain(running, stop)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        connections.close()
        probe.close()
    return Window(
        recording=recording,
        start=start,
        end=end,
        client_cpu_s=client_cpu_s,
        account=_account(before.text, after.text),
        usage_before=before.usage,
        usage_after=after.usage,
        reopened=connections.reopened,
    )


async def _warm_up(
    recording: Recording, plan: Plan, running: asyncio.Task[None], stop: asyncio.Event
) -> None:
    """Until the time is over and something was answered."""
    until = perf_counter() + plan.warmup_s
    while not stop.is_set() and not running.done():
        rest = until - perf_counter()
        if rest <= 0 and (recording.samples or plan.warmup_s == 0):
            return
        await wait_for(stop, min(_TICK_S, rest) if rest > 0 else 0.01)


async def _for_a_time(
    seconds: float, running: asyncio.Task[None], stop: asyncio.Event, start: float, tick: Tick
) -> float:
    """Wait; when the window ended."""
    while (rest := start + seconds - perf_counter()) > 0 and not running.done():
        tick(1 - rest / seconds)
        if await wait_for(stop, min(_TICK_S, rest)):
            break
    return perf_counter()


async def _for_requests(
    number: int,
    load: Load,
    running: asyncio.Task[None],
    stop: asyncio.Event,
    recording: Recording,
    tick: Tick,
) -> float:
    """Let ``number`` more requests go out and wait for all answers; when the last one came."""
    load.quota = number
    while not running.done():
        # A load that is stopped ends by itself, once its requests are answered.
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait(
            (running, stopping), timeout=_TICK_S, return_when=asyncio.FIRST_COMPLETED
        )
        stopping.cancel()
        if stop.is_set():
            load.stop()
            break
        tick(1 - (load.quota or 0) / number)
    if running.done() and recording.samples:
        return max(sample.done_at for sample in recording.samples)
    return perf_counter()


async def _drain(running: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Wait for what was sent; not for long when the person at the terminal wants an end."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    await asyncio.wait((running,), timeout=_HASTY_DRAIN_S if stop.is_set() else None)
    if running.done():
        running.result()


@dataclass(frozen=True)
class _Reading:
    text: str | None
    usage: ProcessUsage | None


class _Probe:
    """Reads the server's own figures on a connection of its own, which a full server may keep waiting."""

    def __init__(self, target: Target, *, scrapes: bool) -> None:
        self._target = target
        self._connections = Connections(target, timeout_s=10.0) if scrapes else None

    async def read(self) -> _Reading:
        text: str | None = None
        if self._connections is not None:
            request = self._target.get(METRICS_PATH)
            answer = await self._connections.exchange(request, keep_body=True)
            text = answer.body.decode("utf-8", "replace") if answer.status == 200 else None
        pid = self._target.pid
        return _Reading(text, process_usage(pid) if pid is not None else None)

    def close(self) -> None:
        if self._connections is not None:
            self._connections.close()


def _account(before: str | None, after: str | None) -> Account | None:
    """Parsed only now: it takes a while, and the load would have waited for it."""
    if before is None or after is None:
        return None
    try:
        return Scrape(after).since(Scrape(before))
    except ValueError:
        return None
