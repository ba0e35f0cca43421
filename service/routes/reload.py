"""``POST /reload``: swap in other weights without losing a request; ``GET /reload/{id}`` watches it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.errors import ApiError, Unprocessable
from service.repository.repository import ReloadJob
from service.repository.source import ModelSource
from service.routes import answer_docs, error_docs, runtime_of
from service.schemas.answers import ReloadAnswer, ReloadRequest
from service.security import resolve_under
from service.uploads import UploadLimits, parse_json, read_body

router = APIRouter(tags=["admin"])
LIMITS = UploadLimits(max_body_bytes=64 * 1024)


@router.post(
    "/reload",
    responses=answer_docs(
        (200, ReloadAnswer, "Swapped."), (202, ReloadAnswer, "Begun; watch /reload/{id}.")
    )
    | error_docs(
        (400, "malformed_json", "The JSON body is not an object."),
        (401, "admin_token_required", "This route needs the admin token."),
        (403, "admin_forbidden", "Admin routes are open to local requests only."),
        (403, "path_outside_root", "The path does not lie under the model root."),
        (404, "unknown_model", "There is no model 'car'; there are: shapes."),
        (409, "reload_running", "A reload of 'shapes' is running."),
        (
            422,
            "model_refused",
            "The checkpoint has 3 classes but MODEL.ROI_HEADS.NUM_CLASSES is 4.",
        ),
    ),
    openapi_extra={
        "requestBody": {
            "content": {
                "application/json": {
                    "schema": ReloadRequest.model_json_schema(),
                    "examples": {
                        "again": {"summary": "The same files again", "value": {}},
                        "other": {
                            "summary": "Other weights",
                            "value": {"weights": "v2/model_final.pth"},
                        },
                    },
                }
            }
        }
    },
)
async def reload(request: Request) -> Response:
    """Load a model again, or other weights, and swap atomically.

    Requests that run or wait go on. On any failure the old version goes on serving.
    """
    runtime = runtime_of(request)
    runtime.admin.check(request)
    wanted = _parse(await read_body(request, LIMITS))
    model = runtime.repository.get(wanted.model)
    job = runtime.repository.start_reload(
        model, lambda current: _source(runtime.model_root, current, wanted)
    )
    if not wanted.wait:
        return _json(job, status=202)
    await asyncio.get_running_loop().run_in_executor(None, job.finished.wait)
    if job.error is not None:
        raise _named(job.error, job)
    return _json(job)


@router.get(
    "/reload/{job_id}",
    responses=answer_docs((200, ReloadAnswer, "The reload."))
    | error_docs((404, "unknown_reload", "There is no such reload.")),
)
async def get_reload(request: Request, job_id: str) -> Response:
    """How a reload is going, or went."""
    runtime = runtime_of(request)
    runtime.admin.check(request)
    return _json(runtime.repository.job(job_id))


def _parse(body: bytes) -> ReloadRequest:
    if not body.strip():
        return ReloadRequest.model_validate({})
    values = parse_json(body, LIMITS)
    try:
        return ReloadRequest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])[:64] if first["loc"] else "body"
        raise Unprocessable(
            "invalid_option",
            f"{key}: {first['msg']}. A reload takes {', '.join(ReloadRequest.model_fields)}.",
            option=key,
        ) from None


def _source(root: Path, current: ModelSource, wanted: ReloadRequest) -> ModelSource:
    """The files to load: those of the request, under the model root, else the model's own."""
    if wanted.weights is None and wanted.config is None and wanted.labels is None:
        return current

    def path(given: str | None) -> Path | None:
        return resolve_under(root, given) if given is not None else None

    config = path(wanted.config)
    return ModelSource(
        config=config or current.config,
        weights=path(wanted.weights) or current.weights,
        # Names belong to the config; another config brings its own, or needs them named.
        labels=path(wanted.labels) or (current.labels if config is None else None),
        root=root if config is not None else current.root,
    )


def _named(error: ApiError, job: ReloadJob) -> ApiError:
    """The error of a reload, with the id of the reload and what goes on serving."""
    serving = job.version or job.previous_version
    error.details = error.details | {"reload": job.id, "serving_version": serving}
    return error


def _json(job: ReloadJob, status: int = 200) -> Response:
    content: dict[str, Any] = job.to_dict()
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")
