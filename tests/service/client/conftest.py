"""Flows driven by hand, and an async client of the app in this process."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import pytest
from fake_server import Served

from service.client import AsyncClient, Retry
from service.client.flows import Flow, Pause, Send

T = TypeVar("T")
Reply = httpx.Response | Exception


@dataclass
class Drive:
    """Carries out a flow: replies are given in turn, a pause moves the clock and nothing else does."""

    replies: list[Reply] = field(default_factory=list)
    sent: list[Send] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    now: float = 1000.0
    reply_s: float = 0.0

    def clock(self) -> float:
        return self.now

    def __call__(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Send):
                    self.sent.append(step)
                    self.now += self.reply_s
                    reply = self.replies.pop(0)
                    step = flow.throw(reply) if isinstance(reply, Exception) else flow.send(reply)
                elif isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = flow.send(None)
                else:
                    step = flow.send(step.run())
        except StopIteration as done:
            return done.value


@pytest.fixture
def drive() -> Callable[[Iterable[Reply]], Drive]:
    return lambda replies: Drive(list(replies))


@pytest.fixture
def client_of() -> Callable[..., Any]:
    """``async with client_of(served, token=...) as client``."""

    @asynccontextmanager
    async def connect(served: Served, **options: Any) -> AsyncIterator[AsyncClient]:
        transport = httpx.ASGITransport(served.app)
        async with httpx.AsyncClient(transport=transport) as http:
            given = {"retry": Retry(base_s=0.0)} | options
            async with AsyncClient("http://localhost", http=http, **given) as client:
                yield client

    return connect
