"""Probes and metrics: never behind a token, a queue or a limit."""

from __future__ import annotations

import orjson
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from service.routes import answer_docs, runtime_of
from service.schemas.answers import HealthAnswer

router = APIRouter(tags=["health"])


def _health(status: str, reason: str | None = None) -> Response:
    body = {"status": status} | ({"reason": reason} if reason else {})
    return Response(orjson.dumps(body), 503 if reason else 200, media_type="application/json")


@router.head("/livez", include_in_schema=False)
@router.get(
    "/livez",
    responses=answer_docs(
        (200, HealthAnswer, "Yes."), (503, HealthAnswer, "No; the reason says why.")
    ),
)
async def livez(request: Request) -> Response:
    """Whether the process works; if not, restart it."""
    reason = runtime_of(request).failure_reason()
    return _health("dead", reason) if reason else _health("ok")


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    responses=answer_docs(
        (200, HealthAnswer, "Yes."), (503, HealthAnswer, "No; the reason says why.")
    ),
)
async def readyz(request: Request) -> Response:
    """Whether traffic may come: a model is loaded and warm, the server does not drain or hang."""
    reason = runtime_of(request).unready_reason()
    return _health("not ready", reason) if reason else _health("ok")


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Prometheus metrics, prefix `detserve_`."""
    return Response(runtime_of(request).metrics.render(), media_type=CONTENT_TYPE_LATEST)
