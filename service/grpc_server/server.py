"""The gRPC server: on the app's event loop, started with the app and stopped in its drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from time import monotonic

import grpc
import grpc.aio
from fastapi import FastAPI

from service.grpc_server.call import Calls
from service.grpc_server.messages import MESSAGES, METHODS, SERVICE
from service.grpc_server.methods import methods
from service.request_metrics import RequestMetrics
from service.runtime import Runtime

logger = logging.getLogger(__name__)

_LOOK_S = 0.1
"""So often to look whether the drain has begun, as the HTTP server does."""

_LEAST_GRACE_S = 1.0
"""For a status that is on its way, where there is no time for more: of an app that has failed, its
calls end at once."""

_FRAMING_BYTES = 64 * 1024
"""A message may be larger than a body over HTTP by what names and shapes need."""


class GrpcServer:
    """Serves ``app`` over gRPC.

    Args:
        app: whose runtime answers.
        address: such as ``127.0.0.1:8001``; port 0 takes a free one.
    """

    def __init__(self, app: FastAPI, address: str) -> None:
        runtime: Runtime = app.state.runtime
        self._runtime = runtime
        self._address = address
        settings = runtime.settings
        self._server = grpc.aio.server(
            # More calls would hold more messages in memory than there can be images in the house.
            maximum_concurrent_rpcs=settings.max_queue + 16,
            options=(
                ("grpc.max_receive_message_length", settings.max_body_bytes + _FRAMING_BYTES),
                ("grpc.max_send_message_length", -1),
                # Two servers on one port would share its calls, and nobody would know.
                ("grpc.so_reuseport", 0),
            ),
        )
        handlers = methods(Calls(app, RequestMetrics(runtime.metrics)))
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    SERVICE,
                    {
                        name: grpc.unary_unary_rpc_method_handler(
                            handlers[name],
                            # The bytes as they are: what cannot be read is refused in the call,
                            # behind its guards and in the log.
                            request_deserializer=None,
                            response_serializer=MESSAGES[answered].SerializeToString,
                        )
                        for name, (_, answered) in METHODS.items()
                    },
                ),
            )
        )
        self._closing = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; the port.

        Raises:
            RuntimeError: the address cannot be had.
        """
        port: int = self._server.add_insecure_port(self._address)
        await self._server.start()
        self._draining = asyncio.create_task(self._drain())
        logger.info("Serving gRPC on %s", self._address)
        return port

    async def stop(self) -> None:
        """Take no new call, and wait until those that run have ended, or the time for the drain has."""
        assert self._draining is not None, "it was started"
        self._closing.set()
        await self._draining

    async def _drain(self) -> None:
        """Once the server drains: go on for its delay like the HTTP server, then stop."""
        runtime, settings = self._runtime, self._runtime.settings
        while not runtime.draining and not await self._closes_within(_LOOK_S):
            pass
        began = monotonic()
        grace_s = settings.drain_timeout_s
        if await self._closes_within(settings.drain_delay_s):
            # The HTTP server has spent some of the time already.
            grace_s = max(_LEAST_GRACE_S, grace_s - (monotonic() - began))
        if not runtime.draining or runtime.failure_reason() is not None:
            grace_s = _LEAST_GRACE_S
        await self._server.stop(grace_s)

    async def _closes_within(self, seconds: float) -> bool:
        """Wait until :meth:`stop` is called, but no longer than ``seconds``."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
        return self._closing.is_set()
