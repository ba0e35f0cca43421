"""unless_disconnected: work goes on while the client waits, and ends when it leaves."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from service.errors import ClientDisconnected
from service.routes.disconnect import unless_disconnected

pytestmark = pytest.mark.anyio


class Client:
    """Sends nothing until it leaves."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()
        self.heard = asyncio.Event()

    @property
    def request(self) -> Request:
        async def receive() -> dict[str, Any]:
            self.heard.set()
            await self.leaves.wait()
            return {"type": "http.disconnect"}

        return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


class Work:
    """Waits, and notes that it was cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = False

    async def do(self) -> int:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return 7


async def test_the_result_is_that_of_the_work() -> None:
    work = Work()
    work.go.set()
    assert await unless_disconnected(Client().request, work.do()) == 7


async def test_an_error_of_the_work_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await unless_disconnected(Client().request, fail())


async def test_work_is_cancelled_when_the_client_leaves() -> None:
    client, work = Client(), Work()
    waiting = asyncio.create_task(unless_disconnected(client.request, work.do()))
    await work.begun.wait()
    client.leaves.set()
    with pytest.raises(ClientDisconnected):
        await waiting
    assert work.cancelled
    assert waiting.cancelling() == 0


async def test_a_client_that_has_left_already_ends_the_work() -> None:
    client, work = Client(), Work()
    client.leaves.set()
    with pytest.raises(ClientDisconnected):
        await unless_disconnected(client.request, work.do())


async def test_a_server_that_stops_cancels_the_request_for_good() -> None:
    client, work = Client(), Work()
    waiting = asyncio.create_task(unless_disconnected(client.request, work.do()))
    await work.begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.cancelled


async def test_a_stop_at_the_moment_when_the_client_leaves_stays_a_stop() -> None:
    client, work = Client(), Work()
    waiting = asyncio.create_task(unless_disconnected(client.request, work.do()))
    await client.heard.wait()
    client.leaves.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_nothing_listens_any_more_once_the_work_is_done() -> None:
    work = Work()
    work.go.set()
    before = asyncio.all_tasks()
    await unless_disconnected(Client().request, work.do())
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
