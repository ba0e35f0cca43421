"""Ends the work for a request when its client leaves: nobody waits for it then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request

from service.errors import ClientDisconnected

T = TypeVar("T")


async def unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled when the client leaves. The body must be read already.

    ``work`` runs in the caller's own task, since a task of its own would cost every request more than
    the one that only listens.

    Raises:
        ClientDisconnected: the client left before ``work`` was done.
    """
    working = asyncio.current_task()
    assert working is not None, "a request is handled in a task"
    left = False

    async def listen() -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        working.cancel()

    listening = asyncio.create_task(listen())
    try:
        return await work
    except asyncio.CancelledError:
        # A stop of the server cancels the task too, perhaps at the same moment: then it ends.
        if left and working.uncancel() == 0:
            raise ClientDisconnected(
                "client_disconnected", "The client left before the answer."
            ) from None
        raise
    finally:
        listening.cancel()
