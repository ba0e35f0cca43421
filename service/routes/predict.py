"""``POST /predict``: images in, instances out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.encoding.instances import Selection
from service.errors import ApiError, QueueFull, Unprocessable
from service.inference.detector import ModelDescription, Views
from service.inference.pipeline import ImageAnswer
from service.repository.served import CURRENT
from service.repository.version import ModelVersion, RequestLease
from service.routes import runtime_of
from service.routes.disconnect import unless_disconnected
from service.routes.predict_docs import PREDICT_OPENAPI, PREDICT_RESPONSES
from service.runtime import Runtime
from service.schemas.options import MAX_PROPOSALS, PredictOptions
from service.settings import Settings
from service.uploads import Upload, read_body, read_uploads

DISCARDED_BYTES = 2**20
"""Of a refused request so much is read; with more to come the connection is closed."""

router = APIRouter(tags=["predict"])


@router.post("/predict", responses=PREDICT_RESPONSES, openapi_extra=PREDICT_OPENAPI)
async def predict(request: Request) -> Response:
    """Detect objects in one or many images.

    Send multipart form data (field `images`, repeated), one raw `image/*` body, or JSON with base64.
    JPEG, PNG, WebP, BMP, TIFF and GIF (first frame) are judged by content. An image that cannot be
    used gets an `error` in its place; the others are answered all the same.
    """
    runtime = runtime_of(request)
    started = time.monotonic()
    runtime.inference.check(request)
    runtime.require_ready()
    # Before the body is parsed: to refuse must cost a flooded server next to nothing.
    try:
        with _counting_refusals(runtime, request.query_params.get("model")):
            runtime.scheduler.require_room()
    except QueueFull:
        await _discard_small_body(request, runtime)
        raise
    body = await read_uploads(request, runtime.upload_limits)
    options = PredictOptions.parse(body.options | _query_options(request))
    model = runtime.repository.get(options.model)
    # Refuse before any work.
    named = model.resolve(options.version)
    selection = Selection.resolve(options, named.detector.description)
    _check_views(selection.tta, runtime.settings)
    number = len(body.uploads)
    _check_proposals(options, number)
    with _counting_refusals(runtime, model.name, number):
        runtime.scheduler.reserve(number)
    lease = RequestLease()
    try:
        if options.version not in (None, CURRENT) and not lease.bind(named):
            raise model.not_loaded(named.label)  # it was unloaded since
        answers = await unless_disconnected(
            request,
            runtime.pipeline.predict(
                body.uploads,
                model,
                options,
                lease,
                timeout_s=runtime.settings.request_timeout_s,
                request_id=request.state.request_id,
            ),
        )
    finally:
        lease.end()
        runtime.scheduler.unreserve(number)
    usable = [answer for answer in answers if answer.error is None]
    if not usable:
        raise _refusal(answers, body.uploads)
    version = lease.version or model.current
    content = _content(request.state.request_id, version, answers, time.monotonic() - started)
    request.state.log.update(
        model=f"{model.name}:{version.label}",
        images=number,
        batch=max(answer.batch_size or 0 for answer in usable),
    )
    return Response(
        orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
    )


async def _discard_small_body(request: Request, runtime: Runtime) -> None:
    """Take a body in that is about to come anyway: the connection can be kept, which costs less than
    a new one. A large one is not waited for."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) <= DISCARDED_BYTES:
        await read_body(request, runtime.upload_limits)


@contextmanager
def _counting_refusals(runtime: Runtime, name: str | None, images: int = 1) -> Iterator[None]:
    """Images that find the queue full are counted for their model."""
    try:
        yield
    except QueueFull:
        model = runtime.repository.get(name)
        labels = (model.name, model.current.label, "queue_full")
        runtime.metrics.predictions.labels(*labels).inc(images)
        raise


def _check_proposals(options: PredictOptions, images: int) -> None:
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


def _check_views(views: Views | None, settings: Settings) -> None:
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


def _query_options(request: Request) -> dict[str, Any]:
    """Query parameters; repeated classes are a list."""
    values: dict[str, Any] = {}
    if not request.scope["query_string"]:
        return values
    for key in request.query_params:
        given = request.query_params.getlist(key)
        if len(given) > 1 and key != "classes":
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


def _content(
    request_id: str, version: ModelVersion, answers: list[ImageAnswer], total_s: float
) -> dict[str, Any]:
    description = version.detector.description
    stages = {
        "decode": max(answer.decode_s for answer in answers),
        "queue": max(answer.queue_s for answer in answers),
        "inference": max(answer.inference_s for answer in answers),
        "encode": max(answer.encode_s for answer in answers),
        "total": total_s,
    }
    return {
        "model": {
            "name": version.model,
            "version": version.label,
            "architecture": description.architecture,
            "weights_sha256": description.weights_sha256,
        }
        | _keypoints(description),
        "request_id": request_id,
        "predictions": [_prediction(answer) for answer in answers],
        "timing_ms": {stage: round(seconds * 1000, 3) for stage, seconds in stages.items()},
    }


def _keypoints(model: ModelDescription) -> dict[str, Any]:
    """What the numbers of ``pred_keypoints`` mean, for a model that has them."""
    if not model.keypoint_names:
        return {}
    return {"keypoint_names": model.keypoint_names, "keypoint_skeleton": model.keypoint_skeleton}


def _prediction(answer: ImageAnswer) -> dict[str, Any]:
    if answer.error is not None:
        return {"image": {"name": answer.name}, "error": answer.error.body()}
    image = {"name": answer.name, "width": answer.width, "height": answer.height}
    return {"image": image, **(answer.outputs or {}), "batch_size": answer.batch_size}
