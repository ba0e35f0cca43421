"""Images of batches give way to others, and still get through."""

import asyncio
from collections.abc import Callable

import pytest
from fake_detector import PATIENCE_S

from service.batches.spare_room import SpareRoom
from service.errors import ApiError, QueueFull

pytestmark = pytest.mark.anyio


class FakePlaces:
    """``depth`` is what others and we have reserved; ``capacity`` is all there is."""

    def __init__(self) -> None:
        self.depth = 0
        self.capacity = 100

    def require_room(self, images: int = 1) -> None:
        if self.depth + images > self.capacity:
            raise QueueFull("queue_full", "full", retry_after=1)


class Crowd:
    """Images that go in and stay."""

    def __init__(self, number: int, *, most: int = 4) -> None:
        self.places = FakePlaces()
        self.draining = False
        self.room = SpareRoom(self.places, most=most, is_draining=lambda: self.draining)
        self.inside: list[int] = []
        self.leave = asyncio.Event()
        self.tasks = [asyncio.create_task(self._go(i)) for i in range(number)]

    async def _go(self, number: int) -> None:
        async with self.room.place():
            self.places.depth += 1
            self.inside.append(number)
            try:
                await self.leave.wait()
            finally:
                self.places.depth -= 1

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.001)

    async def settle(self) -> None:
        """All that can go in has."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def end(self) -> None:
        self.places.depth, self.places.capacity = len(self.inside), 100
        self.leave.set()
        await asyncio.gather(*self.tasks)


async def test_one_batch_at_a_time_goes_in_where_nobody_else_is() -> None:
    crowd = Crowd(10)
    await crowd.settle()
    assert crowd.inside == [0, 1, 2, 3]
    crowd.leave.set()
    await asyncio.gather(*crowd.tasks)
    assert crowd.inside == list(range(10))


async def test_one_image_at_a_time_goes_in_where_others_are() -> None:
    crowd = Crowd(0)
    crowd.places.depth = 7
    crowd.tasks = [asyncio.create_task(crowd._go(i)) for i in range(3)]
    await crowd.settle()
    assert crowd.inside == [0]
    crowd.places.depth = 1  # the others have left
    await crowd.until(lambda: crowd.inside == [0, 1, 2])
    await crowd.end()


async def test_nothing_goes_in_where_there_is_no_place() -> None:
    crowd = Crowd(0)
    crowd.places.capacity = 0
    crowd.tasks = [asyncio.create_task(crowd._go(0))]
    await crowd.settle()
    assert crowd.inside == []
    crowd.places.capacity = 1
    await crowd.until(lambda: crowd.inside == [0])
    await crowd.end()


async def test_a_server_that_drains_lets_nothing_in() -> None:
    crowd = Crowd(2, most=1)
    await crowd.settle()
    crowd.draining = True
    with pytest.raises(ApiError) as caught:
        await crowd.tasks[1]
    assert caught.value.code == "draining"
    crowd.leave.set()
    await crowd.tasks[0]


async def test_one_that_gives_up_waiting_keeps_nobody_out() -> None:
    crowd = Crowd(3, most=1)
    await crowd.settle()
    crowd.tasks.pop(1).cancel()
    crowd.leave.set()
    await asyncio.gather(*crowd.tasks)
    assert crowd.inside == [0, 2]
