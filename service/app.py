"""The application factory: wiring and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.responses import RedirectResponse, Response

from service import __version__
from service.error_handlers import install_error_handlers
from service.logging import log_request
from service.middleware import RequestContextMiddleware, RequestRecord
from service.routes import health, models, predict, reload
from service.runtime import Runtime

PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""Left out of the log and of the HTTP metrics: they come every few seconds and say nothing."""


def create_app(runtime: Runtime) -> FastAPI:
    """The ASGI app over ``runtime``, which it closes at the end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        runtime.close()

    # FastAPI with Swagger UI from installed files: /docs works without a network.
    app = FastAPIOffline(
        title="detserve",
        version=__version__,
        summary="The production server for Detectron2 models, without Detectron2.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.runtime = runtime
    install_error_handlers(app)
    for module in (predict, models, reload, health):
        app.include_router(module.router)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("docs")

    metrics = runtime.metrics

    def started(route: str) -> None:
        if route not in PROBES:
            metrics.http_in_progress.labels(route).inc()

    def observe(record: RequestRecord) -> None:
        if record.route in PROBES:
            return
        metrics.http_in_progress.labels(record.route).dec()
        metrics.http_requests.labels(
            _known_method(record.method), record.route, str(record.status)
        ).inc()
        metrics.http_seconds.labels(_known_method(record.method), record.route).observe(
            record.duration_s
        )
        metrics.http_request_bytes.labels(record.route).observe(record.request_bytes)
        metrics.http_response_bytes.labels(record.route).observe(record.response_bytes)
        log_request(record)

    app.add_middleware(RequestContextMiddleware, observe=observe, started=started)
    return app


def _known_method(method: str) -> str:
    """A label must not be the client's to invent."""
    return (
        method
        if method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
        else "other"
    )
