"""``serve``: runs the app until a signal or its failure, then drains it without losing a request."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState

from service.error_handlers import error_response
from service.errors import Unavailable
from service.server.listening import CannotListenError, address_of, listen, listen_unix
from service.server.protocol import guarded_protocol

logger = logging.getLogger(__name__)

# After the last deadline: for the 503s to leave and for the app's own shutdown.
_CANCEL_GRACE_S = 1.0
_EXIT_GRACE_S = 5.0

# Of an app that has failed: its requests end at once, but a slow client may still send or read.
_FAILED_DRAIN_S = 5.0

FAILED_EXIT_CODE = 70
"""Of an app that has failed and must be started anew: ``EX_SOFTWARE`` of ``sysexits.h``."""


def serve(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    uds: str | None = None,
    drain_delay_s: float = 5.0,
    drain_timeout_s: float = 30.0,
    keep_alive_s: float = 5.0,
    max_head_bytes: int = 32 * 1024,
    head_timeout_s: float = 10.0,
    on_drain: Callable[[], None] | None = None,
    on_refused: Callable[[int], None] | None = None,
    ready_banner: Callable[[str], None] | None = None,
    failure: Callable[[], str | None] | None = None,
) -> int:
    """Serve ``app`` and return the exit code.

    It is 0 after a drained stop, 1 when the app never ran, :data:`FAILED_EXIT_CODE` when it failed.

    A first SIGTERM calls ``on_drain``, goes on accepting for ``drain_delay_s`` (SIGINT: not at
    all), stops listening, and gives what is in flight ``drain_timeout_s``; what is left then is
    cancelled and answered 503. A second signal cancels at once. Should the app refuse to end, the
    process exits with 1 a few seconds after the last deadline; so it does, with 0, when a thread
    keeps it from exiting after this function has returned. An app that tells its ``failure`` stops
    like one that got SIGINT, within seconds.

    Args:
        uds: path of a Unix socket to listen on instead of ``host`` and ``port``.
        keep_alive_s: how long an idle connection stays open.
        max_head_bytes: limit on a request's line and headers; more is 431.
        head_timeout_s: limit on the time that they take to arrive; longer is 408.
        on_drain: called once on the event loop when the drain begins: the app turns unready.
        on_refused: told the status of each request that is refused before it reaches the app.
        ready_banner: called once with the address, such as ``http://127.0.0.1:8000``, when it is
            served.
        failure: asked ten times a second why the app cannot go on; None means that it can.
    """
    try:
        sock = listen_unix(uds) if uds is not None else listen(host, port)
    except CannotListenError as error:
        logger.error("%s", error)
        return 1
    config = uvicorn.Config(
        _AnswerCancelled(app),
        http=guarded_protocol(
            max_head_bytes=max_head_bytes, head_timeout_s=head_timeout_s, on_refused=on_refused
        ),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Off: the true client is the peer; a header that anybody can send does not change it.
        proxy_headers=False,
        timeout_keep_alive=keep_alive_s,  # type: ignore[arg-type]  # fractions work too
    )
    server = DrainingServer(
        config,
        drain_delay_s=drain_delay_s,
        drain_timeout_s=drain_timeout_s,
        on_drain=on_drain,
        on_started=lambda: ready_banner and ready_banner(address_of(sock)),
        failure=failure,
    )
    try:
        server.run(sockets=[sock])
    except SystemExit:
        # uvicorn's way to say that the app's start-up failed; it has logged why.
        return 1
    finally:
        server.bound_exit()
        sock.close()
        if uds is not None:
            Path(uds).unlink(missing_ok=True)
    return server.exit_code


class DrainState(ServerState):
    """uvicorn's state, which every connection shares, and whether the server drains."""

    draining = False


class DrainingServer(uvicorn.Server):
    """uvicorn's server with its own answer to signals and its own shutdown."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        drain_delay_s: float,
        drain_timeout_s: float,
        on_drain: Callable[[], None] | None,
        on_started: Callable[[], object],
        failure: Callable[[], str | None] | None = None,
    ) -> None:
        super().__init__(config)
        self.exit_code = 0
        self.server_state: DrainState = DrainState()
        self._drain_delay_s = drain_delay_s
        self._drain_timeout_s = drain_timeout_s
        self._on_drain = on_drain
        self._on_started = on_started
        self._failure = failure
        self._stop_accepting_at: float | None = None
        self._watchdog: threading.Timer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain, at the next tick; the second ends it."""
        if self._stop_accepting_at is not None:
            self.should_exit = self.force_exit = True
            self._start_watchdog(_EXIT_GRACE_S)
            return
        delay = 0.0 if sig == signal.SIGINT else self._drain_delay_s
        self._stop_accepting_at = monotonic() + delay
        self._start_watchdog(delay + self._drain_timeout_s + _EXIT_GRACE_S)

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second; True ends the main loop."""
        self._check_app()
        if self._stop_accepting_at is not None:
            self._begin_drain()
            if monotonic() >= self._stop_accepting_at:
                self.should_exit = True
        return await super().on_tick(counter)

    def _check_app(self) -> None:
        """An app that has failed stops at once, whether it drains already or not."""
        reason = self._failure() if self._failure is not None and self.exit_code == 0 else None
        if reason is None:
            return
        logger.critical("Stopping with exit code %d: %s", FAILED_EXIT_CODE, reason)
        self.exit_code = FAILED_EXIT_CODE
        self._stop_accepting_at = monotonic()
        self._drain_timeout_s = min(self._drain_timeout_s, _FAILED_DRAIN_S)
        self._start_watchdog(self._drain_timeout_s + _EXIT_GRACE_S, exit_code=self.exit_code)

    def _begin_drain(self) -> None:
        if self.server_state.draining:
            return
        logger.info("Draining: no longer ready")
        # From here on every answer carries Connection: close, so that clients move on.
        self.server_state.draining = True
        if self._on_drain is not None:
            try:
                self._on_drain()
            except Exception:  # a foreign callback must not stop the stop
                logger.exception("The drain callback failed; draining all the same")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let requests end, cancel those that do not, end the app's lifespan."""
        for server in self.servers:
            server.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        deadline = monotonic() + self._drain_timeout_s
        while (state.connections or state.tasks) and not self.force_exit:
            if monotonic() >= deadline:
                break
            await asyncio.sleep(0.02)
        unfinished = list(state.tasks)
        if unfinished:
            logger.warning("Cancelling %d requests that did not end in time", len(unfinished))
            for task in unfinished:
                task.cancel()
            await asyncio.wait(unfinished, timeout=_CANCEL_GRACE_S)
        await self.lifespan.shutdown()

    def bound_exit(self) -> None:
        """After a stop, let the process have a few seconds more for its exit.

        Python waits at exit for every thread, and a thread that hangs would keep the process.
        """
        if self._watchdog is not None:
            self._start_watchdog(_EXIT_GRACE_S, exit_code=self.exit_code)

    def _start_watchdog(self, seconds: float, *, exit_code: int = 1) -> None:
        """End the process after ``seconds``, even when the event loop hangs."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watchdog = threading.Timer(seconds, _exit_now, [exit_code])
        self._watchdog.daemon = True
        self._watchdog.start()


class _AnswerCancelled:
    """Answers 503 for a request that the shutdown cancels; outermost, so nobody waits after it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        response_started = False

        async def watch(message: Message) -> None:
            nonlocal response_started
            response_started = True
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except asyncio.CancelledError:
            if response_started:
                return
            error = Unavailable("shutting_down", "The server stops; send the request again.")
            error.headers |= {"connection": "close", "retry-after": "1"}
            request_id = scope.get("state", {}).get("request_id", "")
            await error_response(error, request_id)(scope, receive, send)


def _exit_now(exit_code: int) -> None:
    logger.error("The process did not stop in time; ending it")
    logging.shutdown()
    os._exit(exit_code)
