"""``POST /predict``: images in, instances out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.encoding.formats.answered import Answered
from service.encoding.formats.native import native_json, native_line
from service.encoding.formats.negotiation import (
    MEDIA_TYPES,
    check_format,
    choose_format,
    options_for,
)
from service.encoding.formats.rendering import render
from service.errors import ApiError, QueueFull, Unprocessable
from service.inference.pipeline import ImageAnswer
from service.routes import runtime_of
from service.routes.asking import Asking, Told, counting_refusals
from service.routes.deadline import Deadline
from service.routes.disconnect import unless_disconnected
from service.routes.predict_docs import PREDICT_OPENAPI, PREDICT_RESPONSES
from service.routes.predict_lines import LinesResponse
from service.runtime import Runtime
from service.schemas.options import FormatName, PredictOptions
from service.tracing import server_timing
from service.uploads import Upload, fetch_uploads, read_body, read_uploads

DISCARDED_BYTES = 2**20
"""Of a refused request so much is read; with more to come the connection is closed."""

router = APIRouter(tags=["predict"])


@router.post("/predict", responses=PREDICT_RESPONSES, openapi_extra=PREDICT_OPENAPI)
async def predict(request: Request) -> Response:
    """Detect objects in one or many images.

    Send multipart form data (field `images`, repeated), one raw `image/*` body, or JSON with base64.
    JPEG, PNG, WebP, BMP, TIFF and GIF (first frame) are judged by content. An image that cannot be
    used gets an `error` in its place; the others are answered all the same.

    The answer is native JSON unless `format` or the `Accept` header asks for another form.
    """
    runtime = runtime_of(request)
    started = time.monotonic()
    runtime.inference.check(request)
    runtime.require_ready()
    deadline = Deadline(request, runtime.settings.request_timeout_s, began=started)
    # Before the body is parsed: to refuse must cost a flooded server next to nothing.
    try:
        with counting_refusals(runtime, request.query_params.get("model")):
            runtime.scheduler.require_room()
    except QueueFull:
        await _discard_small_body(request, runtime)
        raise
    body = await deadline.within(read_uploads(request, runtime.upload_limits))
    options = PredictOptions.parse(body.options | query_options(request))
    chosen = choose_format(options.format, ", ".join(request.headers.getlist("accept")))
    options = options_for(chosen, options)
    # Refuse before any work.
    asking = Asking.begin(runtime, options, len(body.uploads))
    check_format(chosen, asking.named.detector.description, asking.number)
    uploads = body.uploads
    if any(upload.url for upload in uploads):
        # Before there are places in the queue: who is slow elsewhere holds none.
        work = deadline.within(fetch_uploads(uploads, runtime.upload_limits))
        uploads = await unless_disconnected(request, work)
    request_id = request.state.request_id

    async def answers_of(told: Told | None = None) -> list[ImageAnswer]:
        left_s, limit_s = deadline.left()
        return await asking.answers(
            uploads, timeout_s=left_s, limit_s=limit_s, request_id=request_id, told=told
        )

    def log(answers: Sequence[ImageAnswer]) -> None:
        request.state.log.update(
            model=f"{asking.model.name}:{asking.version.label}",
            images=asking.number,
            batch=max(answer.batch_size or 0 for answer in answers),
        )
        if len(answers) < asking.number:
            request.state.log["answered"] = len(answers)  # the client left between two lines

    if chosen == "ndjson":
        return LinesResponse(
            request,
            answers_of,
            names=[upload.name for upload in uploads],
            line=lambda index, answer: native_line(
                index, answer, request_id=request_id, version=asking.lease.version
            ),
            ended=log,
        )
    answers = await unless_disconnected(request, answers_of())
    if all(answer.error is not None for answer in answers):
        raise _refusal(answers, uploads)
    log(answers)
    total_s = time.monotonic() - started
    answered = Answered(request_id, asking.version, answers, total_s=total_s)
    return await _response(answered, chosen, runtime)


async def _response(answered: Answered, chosen: FormatName, runtime: Runtime) -> Response:
    headers = {"Vary": "Accept", "Server-Timing": server_timing(answered.stages)}
    if chosen == "json":
        return Response(native_json(answered), headers=headers, media_type=MEDIA_TYPES[chosen])
    # These do not tell it themselves.
    version = answered.version
    headers["X-Model-Version"] = f"{version.model}:{version.label}"
    if answered.failures:
        headers["X-Failed-Images"] = answered.failures
    body = await runtime.workers.finish(render, answered, chosen)
    return Response(body, headers=headers, media_type=MEDIA_TYPES[chosen])


async def _discard_small_body(request: Request, runtime: Runtime) -> None:
    """Take a body in that is about to come anyway: the connection can be kept, which costs less than
    a new one. A large one is not waited for."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) <= DISCARDED_BYTES:
        await read_body(request, runtime.upload_limits)


def query_options(request: Request) -> dict[str, Any]:
    """Query parameters; repeated classes, or names to include, are a list."""
    values: dict[str, Any] = {}
    if not request.scope["query_string"]:
        return values
    for key in request.query_params:
        given = request.query_params.getlist(key)
        if len(given) > 1 and key not in ("classes", "include"):
            raise Unprocessable(
                "invalid_option", f"Option {key[:64]} is given {len(given)} times.", option=key[:64]
            )
        values[key] = given if len(given) > 1 else given[0]
    return values


def _refusal(answers: list[ImageAnswer], uploads: list[Upload]) -> ApiError:
    """No image could be used: the one error if there is only one kind, else a list of them."""
    errors = [answer.error for answer in answers if answer.error is not None]
    if len(errors) == 1:
        return errors[0]
    details = [
        {"image": answer.name, **error.body()}
        for answer, error in zip(answers, errors, strict=True)
    ]
    refusal = Unprocessable(
        errors[0].code if len({error.code for error in errors}) == 1 else "no_usable_image",
        f"None of the {len(errors)} images can be used; the first: {errors[0].message}",
        errors=details,
    )
    # A fault of ours among them weighs more: the client may try again.
    statuses = {error.status for error in errors}
    refusal.status = statuses.pop() if len(statuses) == 1 else 422 if max(statuses) < 500 else 500
    return refusal
