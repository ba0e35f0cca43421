"""``POST /predict``: images in, instances out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from service.encoding.instances import Selection
from service.errors import ApiError, QueueFull, Unprocessable
from service.inference.detector import Views
from service.inference.pipeline import ImageAnswer
from service.repository.served import CURRENT
from service.repository.version import RequestLease
from service.routes import runtime_of
from service.routes.deadline import Deadline
from service.routes.disconnect import unless_disconnected
from service.routes.predict_docs import PREDICT_OPENAPI, PREDICT_RESPONSES
from service.routes.predict_lines import LinesResponse, Told
from service.runtime import Runtime
from service.schemas.options import MAX_PROPOSALS, FormatName, PredictOptions
from service.settings import Settings
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
    model = runtime.repository.get(options.model)
    # Refuse before any work.
    named = model.resolve(options.version)
    selection = Selection.resolve(options, named.detector.description)
    check_views(selection.tta, runtime.settings)
    number = len(body.uploads)
    check_proposals(options, number)
    check_format(chosen, named.detector.description, number)
    uploads = body.uploads
    if any(upload.url for upload in uploads):
        # Before there are places in the queue: who is slow elsewhere holds none.
        work = deadline.within(fetch_uploads(uploads, runtime.upload_limits))
        uploads = await unless_disconnected(request, work)
    lease = RequestLease()
    request_id = request.state.request_id

    async def answers_of(told: Told | None = None) -> list[ImageAnswer]:
        left_s, limit_s = deadline.left()
        with counting_refusals(runtime, model.name, number):
            runtime.scheduler.reserve(number)
        try:
            if options.version not in (None, CURRENT) and not lease.bind(named):
                raise model.not_loaded(named.label)  # it was unloaded since
            return await runtime.pipeline.predict(
                uploads,
                model,
                options,
                lease,
                timeout_s=left_s,
                limit_s=limit_s,
                request_id=request_id,
                answered=told,
            )
        finally:
            lease.end()
            runtime.scheduler.unreserve(number)

    def log(answers: Sequence[ImageAnswer]) -> None:
        version = lease.version or model.current
        request.state.log.update(
            model=f"{model.name}:{version.label}",
            images=number,
            batch=max(answer.batch_size or 0 for answer in answers),
        )
        if len(answers) < number:
            request.state.log["answered"] = len(answers)  # the client left between two lines

    if chosen == "ndjson":
        return LinesResponse(
            request,
            answers_of,
            names=[upload.name for upload in uploads],
            line=lambda index, answer: native_line(
                index, answer, request_id=request_id, version=lease.version
            ),
            ended=log,
        )
    answers = await unless_disconnected(request, answers_of())
    if all(answer.error is not None for answer in answers):
        raise _refusal(answers, uploads)
    log(answers)
    version = lease.version or model.current
    answered = Answered(request_id, version, answers, total_s=time.monotonic() - started)
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


@contextmanager
def counting_refusals(runtime: Runtime, name: str | None, images: int = 1) -> Iterator[None]:
    """Images that find the queue full are counted for their model."""
    try:
        yield
    except QueueFull:
        model = runtime.repository.get(name)
        labels = (model.name, model.current.label, "queue_full")
        runtime.metrics.predictions.labels(*labels).inc(images)
        raise


def check_proposals(options: PredictOptions, images: int) -> None:
    given = options.proposals
    if given is not None and len(given) != images:
        raise Unprocessable(
            "invalid_option",
            f"proposals has {len(given)} lists of boxes for {images} images; give one for each.",
            option="proposals",
        )
    if given is not None and any(len(boxes) > MAX_PROPOSALS for boxes in given):
        raise Unprocessable(
            "invalid_option",
            f"An image has more than {MAX_PROPOSALS} proposals.",
            option="proposals",
        )


def check_views(views: Views | None, settings: Settings) -> None:
    """The server's bounds on test-time augmentation, which costs a forward pass for each view."""
    if views is None:
        return
    if views.count > settings.max_tta_views:
        raise Unprocessable(
            "too_many_views",
            f"tta asks for {views.count} views of each image; this server allows "
            f"{settings.max_tta_views}. Name fewer sizes.",
            limit=settings.max_tta_views,
            value=views.count,
        )
    largest = max(views.sizes)
    if largest > settings.max_tta_size:
        raise Unprocessable(
            "view_too_large",
            f"tta asks for a short side of {largest} pixels; this server allows "
            f"{settings.max_tta_size}.",
            limit=settings.max_tta_size,
            value=largest,
        )


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
