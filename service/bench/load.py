"""Offers load: a closed loop of clients, or arrivals at a rate that the server has no say in."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from time import perf_counter
from typing import Protocol

from service.bench.connection import Connections
from service.bench.level import Arrivals, Level, Plan
from service.bench.recording import Recording

# A closed loop whose server is gone would otherwise spin.
_PAUSE_AFTER_FAILURE_S = 0.1


class Load(Protocol):
    """Load that is offered until it is stopped or its quota is used up.

    Attributes:
        quota: requests that are still to be sent; None is without end.
    """

    quota: int | None

    async def run(self) -> None:
        """Send requests, and return when the last has been answered."""

    def stop(self) -> None:
        """Send no more."""


def load_for(
    level: Level,
    plan: Plan,
    connections: Connections,
    requests: Iterator[bytes],
    recording: Recording,
) -> Load:
    """The load of ``level``; ``requests`` never end."""
    if level.loop == "closed":
        return ClosedLoop(connections, requests, recording, clients=int(level.value))
    return OpenLoop(
        connections,
        requests,
        recording,
        gaps=arrival_gaps(level.value, plan.arrivals, plan.seed),
        max_outstanding=plan.max_outstanding,
    )


class ClosedLoop:
    """``clients`` clients; each sends its next request when its last was answered, however it was."""

    def __init__(
        self,
        connections: Connections,
        requests: Iterator[bytes],
        recording: Recording,
        *,
        clients: int,
    ) -> None:
        self.quota: int | None = None
        self._connections = connections
        self._requests = requests
        self._recording = recording
        self._clients = clients
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Be the clients, until stopped."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(self._clients):
                clients.create_task(self._client())

    def stop(self) -> None:
        """Send no more."""
        self._stopped.set()

    async def _client(self) -> None:
        while not self._stopped.is_set() and self.quota != 0:
            if self.quota is not None:
                self.quota -= 1
            due_at = perf_counter()
            answer = await self._connections.exchange(next(self._requests))
            self._recording.add(due_at, answer)
            if answer.failure is not None:
                await wait_for(self._stopped, _PAUSE_AFTER_FAILURE_S)


class OpenLoop:
    """Requests are due at times that ``gaps`` (seconds) say, and sent then.

    What is due while ``max_outstanding`` requests are unanswered is not sent, and counted.
    """

    def __init__(
        self,
        connections: Connections,
        requests: Iterator[bytes],
        recording: Recording,
        *,
        gaps: Iterator[float],
        max_outstanding: int,
    ) -> None:
        self.quota: int | None = None
        self._connections = connections
        self._requests = requests
        self._recording = recording
        self._gaps = gaps
        self._max_outstanding = max_outstanding
        self._outstanding = 0
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Send what is due, until stopped."""
        due_at = perf_counter()
        async with asyncio.TaskGroup() as exchanges:
            while self.quota != 0:
                due_at += next(self._gaps)
                # Without a pause for what is overdue, answers would not be read in time either.
                await wait_for(self._stopped, max(0.0, due_at - perf_counter()))
                if self._stopped.is_set():
                    return
                if self.quota is not None:
                    self.quota -= 1
                if self._outstanding >= self._max_outstanding:
                    self._recording.unsent.append(due_at)
                    continue
                self._outstanding += 1
                exchanges.create_task(self._exchange(next(self._requests), due_at))

    def stop(self) -> None:
        """Send no more."""
        self._stopped.set()

    async def _exchange(self, request: bytes, due_at: float) -> None:
        try:
            answer = await self._connections.exchange(request)
        finally:
            self._outstanding -= 1
        self._recording.add(due_at, answer)


def arrival_gaps(rate: float, arrivals: Arrivals, seed: int) -> Iterator[float]:
    """Endless seconds between arrivals, ``rate`` per second on average; equal for an equal seed."""
    if arrivals == "uniform":
        yield from itertools.repeat(1 / rate)
    source = random.Random(seed)
    while True:
        yield source.expovariate(rate)


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait for ``event``, for ``seconds`` at most; whether it came."""
    if event.is_set():
        return True
    if seconds <= 0:
        await asyncio.sleep(0)
        return event.is_set()
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
