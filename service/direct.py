"""A short way to the one route that is asked all the time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


class DirectRoutes:
    """Calls the endpoints of fixed paths without the router and what lies before it.

    FastAPI's way to an endpoint is a dozen nested coroutines, and each of an endpoint's waits goes
    through all of them again: it costs more than all that the service itself does for a request.
    The routes stay registered there too, for their documentation and for every other method. What an
    endpoint raises is answered by :class:`service.middleware.RequestContextMiddleware` around this.
    """

    def __init__(self, app: ASGIApp, routes: Mapping[tuple[str, str], Endpoint]) -> None:
        """Wrap ``app``.

        Args:
            routes: endpoints by method and path. They take a request and nothing else.
        """
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = None
        if scope["type"] == "http":
            endpoint = self.routes.get((scope["method"], scope["path"]))
        if endpoint is None:
            await self.app(scope, receive, send)
            return
        scope["endpoint"] = endpoint
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)
