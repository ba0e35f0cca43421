"""The application factory: wiring and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from service import __version__
from service.direct import DirectRoutes
from service.error_handlers import install_error_handlers
from service.middleware import RequestContextMiddleware
from service.openapi import DESCRIPTION, TAGS, complete, operation_id
from service.request_metrics import RequestMetrics
from service.routes import (
    batch,
    categories,
    cvat,
    health,
    label_studio,
    models,
    open_inference,
    predict,
    reload,
    shadow,
    upload,
    versions,
)
from service.routes.playground import install_playground
from service.runtime import Runtime


def create_app(runtime: Runtime) -> FastAPI:
    """The ASGI app over ``runtime``, which it closes at the end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _grpc(app, runtime):
            yield
        runtime.close()

    # FastAPI with Swagger UI from installed files: /docs works without a network.
    app = FastAPIOffline(
        title="detserve",
        version=__version__,
        summary="The production server for Detectron2 models, without Detectron2.",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
        lifespan=lifespan,
        redoc_url=None,
        # Not set up here, but looked for at every request, in the environment.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.runtime = runtime
    install_error_handlers(app)
    for module in (
        predict, batch, models, reload, versions, shadow, upload, health, open_inference, label_studio,
        cvat, categories,
    ):  # fmt: skip
        app.include_router(module.router)

    complete(app)
    install_playground(app)

    # In the place of the stack that Starlette would build at the first request: ours is the outermost,
    # so that it sees every request and every error.
    observer = RequestMetrics(runtime.metrics)
    direct = DirectRoutes(app.build_middleware_stack(), {("POST", "/predict"): predict.predict})
    app.middleware_stack = RequestContextMiddleware(
        direct, observe=observer.ended, started=observer.started
    )
    return app


@asynccontextmanager
async def _grpc(app: FastAPI, runtime: Runtime) -> AsyncIterator[None]:
    """The same server over gRPC, if the settings name a port."""
    settings = runtime.settings
    if not settings.grpc_port:
        yield
        return
    from service.grpc_server.server import GrpcServer  # its packages are an optional extra

    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    server = GrpcServer(app, f"{host}:{settings.grpc_port}")
    await server.start()
    try:
        yield
    finally:
        await server.stop()
