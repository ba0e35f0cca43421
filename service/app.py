"""The application factory: wiring and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.responses import RedirectResponse, Response

from service import __version__
from service.direct import DirectRoutes
from service.error_handlers import install_error_handlers
from service.middleware import RequestContextMiddleware
from service.request_metrics import RequestMetrics
from service.routes import health, models, predict, reload, shadow, upload, versions
from service.runtime import Runtime


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
        # Not set up here, but looked for at every request, in the environment.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.runtime = runtime
    install_error_handlers(app)
    for module in (predict, models, reload, versions, shadow, upload, health):
        app.include_router(module.router)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("docs")

    # In the place of the stack that Starlette would build at the first request: ours is the outermost,
    # so that it sees every request and every error.
    observer = RequestMetrics(runtime.metrics)
    direct = DirectRoutes(app.build_middleware_stack(), {("POST", "/predict"): predict.predict})
    app.middleware_stack = RequestContextMiddleware(
        direct, observe=observer.ended, started=observer.started
    )
    return app
