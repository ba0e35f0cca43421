"""``/v2``: the Open Inference Protocol over HTTP, with binary tensors and the model repository."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from service.audit import admin_call
from service.error_handlers import as_api_error, internal_error
from service.errors import ApiError, BadRequest
from service.open_inference import metadata
from service.open_inference.changes import load_model, unload_model
from service.open_inference.docs import (
    INDEX_DOCS,
    INFER_BODY,
    INFER_DOCS,
    LOAD_BODY,
    LOAD_DOCS,
    MODEL_DOCS,
    UNLOAD_BODY,
    UNLOAD_DOCS,
    error_docs,
)
from service.open_inference.infer import infer
from service.open_inference.rest import (
    HEAD_LENGTH,
    encode_answer,
    parse_infer_request,
    parse_message,
)
from service.routes import answer_docs, runtime_of
from service.routes.asking import counting_refusals
from service.routes.disconnect import unless_disconnected
from service.routes.jobs import LIMITS
from service.schemas.open_inference import (
    IndexBody,
    LiveAnswer,
    LoadBody,
    ModelReadyAnswer,
    ReadyAnswer,
    ServerAnswer,
    UnloadBody,
)
from service.uploads import read_body

logger = logging.getLogger(__name__)

MAX_JSON_VALUES = 1_000_000
"""Values in the JSON of an inference request: the samples of a picture of 577 x 577. Larger ones come
as raw bytes or as a file, which cost a fraction of it."""

B = TypeVar("B", LoadBody, UnloadBody)


class ProtocolRoute(APIRoute):
    """A route whose errors have the protocol's shape: ``{"error": "a sentence"}``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:  # the one place where errors get this shape
                return _error_response(request, error)

        return answer


router = APIRouter(prefix="/v2", tags=["open inference"], route_class=ProtocolRoute)


@router.get(
    "/health/live", responses=answer_docs((200, LiveAnswer, "Yes."), (503, LiveAnswer, "No."))
)
async def live(request: Request) -> Response:
    """Whether the process works."""
    works = runtime_of(request).failure_reason() is None
    return _json({"live": works}, 200 if works else 503)


@router.get(
    "/health/ready", responses=answer_docs((200, ReadyAnswer, "Yes."), (503, ReadyAnswer, "No."))
)
async def ready(request: Request) -> Response:
    """Whether predictions can be made."""
    is_ready = runtime_of(request).unready_reason() is None
    return _json({"ready": is_ready, "live": is_ready}, 200 if is_ready else 503)


@router.get("", responses=answer_docs((200, ServerAnswer, "The server.")) | error_docs(401))
async def server(request: Request) -> Response:
    """Name and version of the server, and its extensions of the protocol."""
    runtime_of(request).inference.check(request)
    return _json(metadata.server_metadata())


@router.get("/models/{name}", responses=MODEL_DOCS)
async def get_model(request: Request, name: str) -> Response:
    """What a model takes and gives, and which versions of it are loaded."""
    return await _metadata(request, name, None)


@router.get("/models/{name}/versions/{version}", responses=MODEL_DOCS)
async def get_model_version(request: Request, name: str, version: str) -> Response:
    """What a version of a model takes and gives."""
    return await _metadata(request, name, version)


READY_DOCS = answer_docs(
    (200, ModelReadyAnswer, "Yes."),
    (503, ModelReadyAnswer, "No: not loaded, or the server drains."),
) | error_docs(401, 404, 422)


@router.get("/models/{name}/ready", responses=READY_DOCS)
async def model_ready(request: Request, name: str) -> Response:
    """Whether a model answers."""
    return await _ready(request, name, None)


@router.get("/models/{name}/versions/{version}/ready", responses=READY_DOCS)
async def model_version_ready(request: Request, name: str, version: str) -> Response:
    """Whether a version of a model answers."""
    return await _ready(request, name, version)


@router.post("/models/{name}/infer", responses=INFER_DOCS, openapi_extra=INFER_BODY)
async def infer_model(request: Request, name: str) -> Response:
    """Detect objects in the images of a tensor: `IMAGE` (encoded files) or `PIXELS` (RGB).

    The instances of all images follow each other in the outputs; `image_index` tells whose each is.
    """
    return await _infer(request, name, None)


@router.post(
    "/models/{name}/versions/{version}/infer", responses=INFER_DOCS, openapi_extra=INFER_BODY
)
async def infer_model_version(request: Request, name: str, version: str) -> Response:
    """As without a version, by this one."""
    return await _infer(request, name, version)


@router.post("/repository/index", responses=INDEX_DOCS)
async def repository_index(request: Request) -> Response:
    """All versions of all models and where each stands."""
    runtime = runtime_of(request)
    runtime.inference.check(request)
    body = parse_message(await read_body(request, LIMITS), IndexBody, LIMITS)
    return _json(await _off_loop(functools.partial(metadata.index, runtime, ready=body.ready)))


@router.post("/repository/models/{name}/load", responses=LOAD_DOCS, openapi_extra=LOAD_BODY)
async def load(request: Request, name: str) -> Response:
    """Make a version current, as `POST /reload` does: proven, and without losing a request."""
    async with admin_call(request, "reload", model=name) as call:
        body = await _change(request, LoadBody)
        job = await load_model(call, runtime_of(request), name, body.parameters)
        return _json({"name": name, "load": True, "version": job.version, "job": job.id})


@router.post("/repository/models/{name}/unload", responses=UNLOAD_DOCS, openapi_extra=UNLOAD_BODY)
async def unload(request: Request, name: str) -> Response:
    """Let a version go that is neither current nor has an alias."""
    async with admin_call(request, "unload", model=name) as call:
        body = await _change(request, UnloadBody)
        label = await unload_model(call, runtime_of(request), name, body.parameters)
        return _json({"name": name, "unload": True, "version": label})


_EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


@router.api_route("", methods=_EVERY_METHOD, include_in_schema=False)
@router.api_route("/{path:path}", methods=_EVERY_METHOD, include_in_schema=False)
async def nothing(request: Request) -> Response:
    """404 and 405 in the protocol's shape."""
    allowed = {
        method
        for route in router.routes
        if isinstance(route, APIRoute) and route.include_in_schema
        and route.matches(request.scope)[0] is Match.PARTIAL
        for method in route.methods or ()
    }  # fmt: skip
    if allowed:
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})
    raise HTTPException(404)


async def _metadata(request: Request, name: str, version: str | None) -> Response:
    runtime = runtime_of(request)
    runtime.inference.check(request)
    model = runtime.repository.get(name)
    return _json(await _off_loop(functools.partial(metadata.model_metadata, model, version)))


async def _ready(request: Request, name: str, version: str | None) -> Response:
    runtime = runtime_of(request)
    runtime.inference.check(request)
    is_ready = await _off_loop(functools.partial(metadata.is_ready, runtime, name, version))
    return _json({"name": name, "ready": is_ready}, 200 if is_ready else 503)


async def _infer(request: Request, name: str, version: str | None) -> Response:
    runtime = runtime_of(request)
    runtime.inference.check(request)
    runtime.require_ready()
    # Before the body is read: to refuse must cost a flooded server next to nothing.
    with counting_refusals(runtime, name):
        runtime.scheduler.require_room()
    body = await read_body(request, runtime.upload_limits)
    limits = dataclasses.replace(runtime.upload_limits, max_json_values=MAX_JSON_VALUES)
    asked = parse_infer_request(body, request.headers.get(HEAD_LENGTH), limits)
    del body  # what is left of it, the inputs hold
    inferred = await infer(
        runtime,
        asked,
        model=name,
        version=version,
        request_id=request.state.request_id,
        wait=functools.partial(unless_disconnected, request),
    )
    request.state.log.update(inferred.facts)
    encoded = await runtime.workers.finish(encode_answer, inferred.answer, asked)
    if encoded.head_length is None:
        return Response(encoded.body, media_type="application/json")
    return Response(
        encoded.body,
        headers={HEAD_LENGTH: str(encoded.head_length)},
        media_type="application/octet-stream",
    )


async def _change(request: Request, schema: type[B]) -> B:
    """The body of a load or an unload; clients that send no parameters name the version as ?version=."""
    body = parse_message(await read_body(request, LIMITS), schema, LIMITS)
    word = request.query_params.get("version")
    if word is None:
        return body
    if body.parameters.version not in (None, word):
        raise BadRequest("malformed_request", "The version is named twice, and differently.")
    given = {"parameters": body.parameters.model_dump() | {"version": word}}
    return parse_message(orjson.dumps(given), schema, LIMITS)


async def _off_loop(function: Callable[[], Any]) -> Any:
    """Call ``function``, which may wait for the disk, beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, function)


def _json(content: dict[str, Any] | list[dict[str, Any]], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _error_response(request: Request, error: Exception) -> Response:
    refusal: ApiError | None = as_api_error(error)
    if refusal is None:
        request_id = request.scope.get("state", {}).get("request_id")
        logger.error("Unhandled error, request id %s", request_id, exc_info=error)
        refusal = internal_error()
    response = _json({"error": refusal.message}, refusal.status)
    response.headers.update(refusal.headers)
    return response
