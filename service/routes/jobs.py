"""What the routes that change a model share: their bodies, the job they start, its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.audit import AdminCall
from service.errors import ApiError, Unprocessable
from service.repository.jobs import Action, ReloadJob
from service.repository.orders import Order, Wanted
from service.repository.served import ServedModel
from service.runtime import Runtime
from service.schemas.reload import LoadRequest, RollbackRequest
from service.uploads import UploadLimits, parse_json, read_body

LIMITS = UploadLimits(max_body_bytes=64 * 1024)
B = TypeVar("B", bound=BaseModel)


async def read_wanted(request: Request, schema: type[B]) -> B:
    """The JSON body as ``schema``; no body is an empty one.

    Raises:
        BadRequest: it is no JSON object.
        Unprocessable: ``invalid_option``.
    """
    body = await read_body(request, LIMITS)
    try:
        return schema.model_validate(parse_json(body, LIMITS) if body.strip() else {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])[:64] or "body"
        reason = first["msg"].removeprefix("Value error, ")
        raise Unprocessable(
            "invalid_option",
            f"{key}: {reason}. A request here takes {', '.join(schema.model_fields)}.",
            option=key,
        ) from None


def as_wanted(runtime: Runtime, body: LoadRequest | RollbackRequest) -> Wanted:
    """What a body says of the way a version is taken up."""
    if isinstance(body, RollbackRequest):
        return Wanted(runtime.model_root, strategy=body.strategy)
    return Wanted(
        runtime.model_root,
        dry_run=body.dry_run,
        strategy=body.strategy,
        allow_class_changes=body.allow_class_changes,
        gate=body.gate,
    )


async def run_job(
    call: AdminCall,
    runtime: Runtime,
    model: ServedModel,
    action: Action,
    order: Callable[[], Order],
    body: LoadRequest | RollbackRequest,
) -> Response:
    """Begin a change of ``model``; answer when it is done, or at once if the body says so.

    Raises:
        ApiError: what refused it.
    """
    return job_answer(await change(call, runtime, model, action, order, body), call.status)


async def change(
    call: AdminCall,
    runtime: Runtime,
    model: ServedModel,
    action: Action,
    order: Callable[[], Order],
    body: LoadRequest | RollbackRequest,
) -> ReloadJob:
    """As :func:`run_job`, for protocols with answers of their own: the job, ended unless the body says
    that nobody waits.

    Raises:
        ApiError: what refused it.
    """
    runtime.require_open()
    # Reading manifests and settings takes the disk's time, so it is not done on the event loop.
    loop = asyncio.get_running_loop()
    job = await loop.run_in_executor(
        None, lambda: runtime.repository.start(model, action, order, current=body.current)
    )
    call.facts(model=model.name, version=job.candidate, job=job.id)
    if not body.wait:
        call.status = 202
        return job
    await loop.run_in_executor(None, job.finished.wait)
    call.facts(outcome=job.outcome)
    if job.error is not None:
        raise _named(job.error, job, model)
    return job


def job_answer(job: ReloadJob, status: int = 200) -> Response:
    """A job as the answer."""
    content: dict[str, Any] = job.to_dict()
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")


def _named(error: ApiError, job: ReloadJob, model: ServedModel) -> ApiError:
    """The error of a job, with the id of the job and what goes on serving."""
    serving = model.current.label if model.serves and not model.lost else None
    error.details = error.details | {"reload": job.id, "serving_version": serving}
    return error
