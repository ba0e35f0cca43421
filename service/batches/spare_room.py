"""Lets images of batches in where others leave room: they are never in a hurry."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from service.errors import QueueFull
from service.inference.work import draining

LOOK_AGAIN_S = 0.05


class Places(Protocol):
    """Those of the scheduler."""

    @property
    def depth(self) -> int:
        """Images in the house."""

    def require_room(self, images: int = 1) -> None:
        """Raise :class:`QueueFull` if there is none."""


class SpareRoom:
    """One batch of the model's, while nobody else is there; else one image at a time.

    So whoever comes meets one running batch at most, and a batch job still goes on under full load.

    Args:
        places: of the scheduler.
        most: images inside at a time, of all jobs together.
        is_draining: whether the server stops.
    """

    def __init__(self, places: Places, *, most: int, is_draining: Callable[[], bool]) -> None:
        self.most = most
        self._places = places
        self._is_draining = is_draining
        self._inside = 0
        # First come, first served, so that jobs take turns.
        self._turn = asyncio.Lock()
        self._left = asyncio.Event()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for room; within the block one image is inside. The place in the scheduler's queue has
        to be reserved at once, before anything else is waited for.

        Raises:
            Unavailable: ``draining``.
        """
        async with self._turn:
            while not self._is_open():
                self._left.clear()
                # Nobody tells when others come and go.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await self._left.wait()
            self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._left.set()

    def _is_open(self) -> bool:
        if self._is_draining():
            raise draining()
        others = self._places.depth - self._inside
        if self._inside >= (self.most if others <= 0 else 1):
            return False
        try:
            self._places.require_room()
        except QueueFull:
            return False
        return True
