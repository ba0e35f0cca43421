"""Servers on fake detectors that speak gRPC, and a client of our own messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from fake_server import Served

from service.grpc_server.messages import MESSAGES, METHODS, SERVICE
from service.grpc_server.server import GrpcServer


class Client:
    """Calls methods by name."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def call(
        self, method: str, message: Any = None, *, timeout: float | None = 20, **metadata: str
    ) -> Any:
        """The call, to be awaited or cancelled."""
        asked, answered = METHODS[method]
        call = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=MESSAGES[asked].SerializeToString,
            response_deserializer=MESSAGES[answered].FromString,
        )
        pairs = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
        return call(message or MESSAGES[asked](), timeout=timeout, metadata=pairs)

    async def refused(self, method: str, message: Any = None, **options: Any) -> Any:
        """The error that a call ends with."""
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await self.call(method, message, **options)
        return refusal.value


Connect = Callable[[Served], Awaitable[tuple[GrpcServer, Client]]]


@asynccontextmanager
async def _connected(served: Served) -> AsyncIterator[tuple[GrpcServer, Client]]:
    server = GrpcServer(served.app, "127.0.0.1:0")
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield server, Client(channel)
    finally:
        await server.stop()


@pytest.fixture
def connected() -> Callable[[Served], Any]:
    """``async with connected(served) as (server, client)``."""
    return _connected
