"""``/models/{m}/shadow``: try a version on real traffic before it answers any."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.audit import admin_call
from service.errors import NotFound, Unprocessable
from service.repository.served import ServedModel
from service.repository.shadow.shadowing import Shadow
from service.routes import answer_docs, body_docs, error_docs, runtime_of
from service.schemas.shadow import ShadowAnswer, ShadowRequest
from service.uploads import UploadLimits, parse_json, read_body

router = APIRouter(tags=["admin"])
LIMITS = UploadLimits(max_body_bytes=64 * 1024)

_REFUSED = (
    (401, "admin_token_required", "This route needs the admin token."),
    (403, "admin_forbidden", "Admin routes are open to local requests only."),
    (404, "unknown_model", "There is no model 'car'; there are: shapes."),
)
_NONE = (404, "no_shadow", "'shapes' has no shadow.")


@router.put(
    "/models/{name}/shadow",
    responses=answer_docs(
        (200, ShadowAnswer, "It has taken the place of another shadow."),
        (201, ShadowAnswer, "It has begun."),
    )
    | error_docs(
        (400, "malformed_json", "The JSON body is not an object."),
        *_REFUSED,
        (404, "unknown_version", "'shapes' has no version '7'."),
        (409, "version_not_loaded", "Version 3 of 'shapes' is not loaded. Load it first."),
        (409, "version_retired", "Version 3 of 'shapes' was unloaded or made current meanwhile."),
        (422, "invalid_option", "share: Input should be less than or equal to 1."),
        (422, "shadow_of_itself", "Version 1 is the current one of 'shapes'; name another one."),
        (422, "shadow_not_supported", "Version 1 gives sem_seg; a shadow compares instances."),
        (422, "tasks_differ", "Version 3 is of another kind than version 1."),
    ),
    openapi_extra=body_docs(
        ShadowRequest, {"tenth": {"value": {"version": "3", "share": 0.1}}}, required=True
    ),
)
async def put_shadow(request: Request, name: str) -> Response:
    """Let a loaded version answer a share of the current version's images too, for comparison alone.

    It runs when the model has nothing else to do; answers stay as they are. A shadow ends with DELETE,
    with another PUT, and when the current version changes or the candidate is unloaded.
    """
    async with admin_call(request, "shadow_start", model=name) as call:
        runtime = runtime_of(request)
        wanted = _parse(await read_body(request, LIMITS))
        call.facts(version=wanted.version, share=wanted.share)
        model = runtime.repository.get(name)
        replaces = model.shadow is not None
        shadow = Shadow.start(
            model,
            model.resolve(wanted.version),
            wanted.share,
            scheduler=runtime.scheduler,
            workers=runtime.workers,
            metrics=runtime.metrics.shadow,
        )
        call.status = 200 if replaces else 201
        return _json(shadow, call.status)


@router.get(
    "/models/{name}/shadow",
    responses=answer_docs((200, ShadowAnswer, "What it has found so far."))
    | error_docs(*_REFUSED, _NONE),
)
async def get_shadow(request: Request, name: str) -> Response:
    """How a candidate's answers differ from those of the current version."""
    runtime = runtime_of(request)
    runtime.admin.check(request)
    return _json(_shadow_of(runtime.repository.get(name)))


@router.delete(
    "/models/{name}/shadow",
    responses=answer_docs((200, ShadowAnswer, "It has ended; this is what it found."))
    | error_docs(*_REFUSED, _NONE),
)
async def delete_shadow(request: Request, name: str) -> Response:
    """End a shadow; its last report is the answer."""
    async with admin_call(request, "shadow_end", model=name) as call:
        shadow = _shadow_of(runtime_of(request).repository.get(name))
        call.facts(version=shadow.candidate.label)
        shadow.close()
        return _json(shadow)


def _shadow_of(model: ServedModel) -> Shadow:
    shadow = model.shadow
    if shadow is None:
        raise NotFound(
            "no_shadow",
            f"{model.name!r} has no shadow. Begin one with PUT /models/{model.name}/shadow.",
            model=model.name,
        )
    return shadow


def _parse(body: bytes) -> ShadowRequest:
    try:
        return ShadowRequest.model_validate(parse_json(body, LIMITS))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])[:64] if first["loc"] else "body"
        raise Unprocessable(
            "invalid_option",
            f"{key}: {first['msg']}. A shadow takes {', '.join(ShadowRequest.model_fields)}.",
            option=key,
        ) from None


def _json(shadow: Shadow, status: int = 200) -> Response:
    report = shadow.report()
    since = datetime.fromtimestamp(report.pop("started_at"), UTC).isoformat(timespec="seconds")
    content: dict[str, Any] = report | {"since": since}
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")
