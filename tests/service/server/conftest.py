"""A guarded server on a real socket within the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp

from service.server.protocol import GuardedHttpProtocol
from service.server.runner import DrainState

Listening = Callable[..., AbstractAsyncContextManager[int]]


@pytest.fixture
def listening() -> Listening:
    """``async with listening(app, state=..., head_timeout_s=...) as port``."""

    @asynccontextmanager
    async def run(
        app: ASGIApp, state: DrainState | None = None, **limits: Any
    ) -> AsyncIterator[int]:
        protocol_class = type("Limited", (GuardedHttpProtocol,), limits)
        config = uvicorn.Config(
            app, http=protocol_class, ws="none", log_config=None, access_log=False
        )
        config.load()
        shared = state or DrainState()
        server = await asyncio.get_running_loop().create_server(
            lambda: protocol_class(config=config, server_state=shared, app_state={}),
            "127.0.0.1",
            0,
        )
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for connection in list(shared.connections):
                connection.transport.abort()
            for task in list(shared.tasks):
                task.cancel()
            await asyncio.sleep(0)

    return run
