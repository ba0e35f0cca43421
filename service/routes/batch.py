"""``/predict/batch``: many images as one job, its progress, its result as NDJSON or COCO JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service.batches.archive import ArchiveLimits
from service.batches.coco import coco_stream
from service.batches.job import BatchJob
from service.batches.jobs import Predict, Predicted
from service.batches.receiving import read_batch
from service.encoding.instances import Selection
from service.errors import Conflict, Unprocessable
from service.inference.windows.progress import Tell
from service.routes import answer_docs, error_docs, runtime_of
from service.routes.asking import ask, check_views
from service.routes.predict import query_options
from service.routes.predict_docs import PREDICT_OPENAPI
from service.runtime import Runtime
from service.schemas.batch import BatchAnswer
from service.schemas.options import PredictOptions
from service.uploads import Upload

router = APIRouter(tags=["predict"])

_TOKEN = (401, "token_required", "This route needs a token: send Authorization: Bearer <token>.")
_UNKNOWN = (404, "unknown_batch", "There is no batch '7'. One is kept for 3600 s after its end.")
_OPTIONS = [
    parameter
    for parameter in PREDICT_OPENAPI["parameters"]
    if parameter["in"] == "query" and parameter["name"] not in ("format", "proposals")
]
_RESULT_DOCS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A line for each image as with format=ndjson of /predict, in the order in "
        "which they end; index is the image's place. Of a job that has not succeeded the last line "
        "is its error. Or COCO results.",
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
        },
    }
}


@router.post(
    "/predict/batch",
    operation_id="start_batch",
    status_code=202,
    responses=answer_docs((202, BatchAnswer, "Begun; watch the path in status."))
    | error_docs(
        (400, "malformed_multipart", "The multipart body has no boundary."),
        _TOKEN,
        (404, "unknown_model", "There is no model 'car'; there are: shapes."),
        (404, "unknown_version", "'shapes' has no version '7'; there are: 1, 2."),
        (408, "request_timeout", "The body arrived too slowly."),
        (409, "version_not_loaded", "Version 3 of 'shapes' is not loaded."),
        (413, "batch_too_large", "The batch has 3000000000 bytes; the limit is 2147483648."),
        (413, "archive_too_large", "The archive has 3000000000 bytes unpacked."),
        (413, "too_many_images", "The archive holds 20000 files; the limit is 10000."),
        (
            415,
            "unsupported_content_type",
            "Send a batch as multipart/form-data or application/zip.",
        ),
        (422, "invalid_archive", "This zip cannot be used: it has no end; was it cut short?"),
        (422, "mixed_batch", "A batch is one zip or several images."),
        (422, "invalid_option", "Option proposals is not taken in a batch."),
        (429, "too_many_batches", "The server works on 4 batches at a time. Try again in 30 s."),
        (503, "draining", "The server is shutting down. Try another replica."),
        (507, "batch_not_written", "The disk takes no more for batches."),
    ),
    openapi_extra={
        "parameters": _OPTIONS,
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "images": {
                                "type": "array",
                                "items": {"type": "string", "format": "binary"},
                                "description": "Many images, or one zip.",
                            }
                        },
                        "required": ["images"],
                    }
                },
                "application/zip": {"schema": {"type": "string", "format": "binary"}},
            },
        },
    },
)
async def start(request: Request) -> Response:
    """Predict many images as a job that runs when other requests leave room.

    Send multipart form data (field `images`, repeated, or one zip), or a zip as the body; options as in
    /predict. Each image's answer names the version that gave it.
    """
    runtime = runtime_of(request)
    runtime.inference.check(request)
    runtime.require_open()
    settings = runtime.settings
    limits = replace(
        runtime.upload_limits,
        max_body_bytes=settings.max_batch_bytes,
        max_images=settings.max_batch_images,
        remote=None,
    )
    archive = ArchiveLimits(
        max_images=settings.max_batch_images,
        max_image_bytes=settings.max_body_bytes,
        max_total_bytes=settings.max_batch_bytes,
    )
    async with runtime.batches.receiving() as folder:
        # Refuse before the body is read what can be.
        given = query_options(request)
        _checked_options(runtime, given)
        batch = await read_batch(request, folder, limits, archive)
        try:
            options = _checked_options(runtime, batch.options | given)
            runtime.require_open()
        except BaseException:  # raised again, behind what it leaves
            batch.source.close()
            raise
        model = runtime.repository.get(options.model)
        job = runtime.batches.start(
            batch.source,
            folder,
            _predict(runtime, options, request.state.request_id),
            model=model.name,
            coco=options.boxes == "xyxy" and options.masks in ("rle", "none"),
        )
    request.state.log.update(model=model.name, images=job.total, batch_job=job.id)
    response = _answer(job, 202)
    response.headers["location"] = f"/predict/batch/{job.id}"
    return response


@router.get(
    "/predict/batch/{job_id}",
    operation_id="get_batch",
    responses=answer_docs((200, BatchAnswer, "The job.")) | error_docs(_TOKEN, _UNKNOWN),
)
async def status(request: Request, job_id: str) -> Response:
    """How far a batch is."""
    runtime = runtime_of(request)
    runtime.inference.check(request)
    return _answer(runtime.batches.get(job_id))


@router.get(
    "/predict/batch/{job_id}/result",
    operation_id="get_batch_result",
    response_class=Response,
    responses=_RESULT_DOCS
    | error_docs(
        _TOKEN,
        _UNKNOWN,
        (409, "batch_not_finished", "The batch is running; COCO results come at its end."),
        (409, "batch_ended_early", "The batch has not succeeded; take format=ndjson."),
        (422, "invalid_option", "format=coco needs boxes=xyxy and masks=rle or none."),
    ),
    openapi_extra={
        "parameters": [
            {
                "name": "format",
                "in": "query",
                "required": False,
                "description": "ndjson, at any time: the lines so far, then those that come; or coco, "
                "once the job has succeeded: COCO's list of results.",
                "schema": {"type": "string", "enum": ["ndjson", "coco"]},
            }
        ]
    },
)
async def result(request: Request, job_id: str) -> Response:
    """The answers of a batch, streamed: while it runs, or after."""
    runtime = runtime_of(request)
    runtime.inference.check(request)
    job = runtime.batches.get(job_id)
    form = request.query_params.get("format", "ndjson")
    if form == "ndjson":
        return StreamingResponse(job.results(), media_type="application/x-ndjson")
    if form != "coco":
        raise Unprocessable(
            "invalid_option", "Option format is ndjson or coco here.", option="format"
        )
    if not job.ended:
        raise Conflict("batch_not_finished", "The batch is running; COCO results come at its end.")
    if job.state != "succeeded":
        raise Conflict(
            "batch_ended_early",
            f"The batch has ended as {job.state}; take format=ndjson for what there is.",
        )
    if not job.coco:
        raise Unprocessable(
            "invalid_option",
            "format=coco needs a batch that was sent with boxes=xyxy and masks=rle or none.",
            option="format",
        )
    return StreamingResponse(coco_stream(job), media_type="application/json")


@router.delete(
    "/predict/batch/{job_id}",
    operation_id="delete_batch",
    responses=answer_docs((200, BatchAnswer, "How it ended; it is forgotten now."))
    | error_docs(_TOKEN, _UNKNOWN),
)
async def delete(request: Request, job_id: str) -> Response:
    """Cancel a batch if it runs, and remove its images and results."""
    runtime = runtime_of(request)
    runtime.inference.check(request)
    return _answer(await runtime.batches.delete(job_id))


def _checked_options(runtime: Runtime, given: dict[str, Any]) -> PredictOptions:
    """The options of a batch, checked against the model as it is now."""
    options = PredictOptions.parse(given)
    if options.proposals is not None:
        raise Unprocessable(
            "invalid_option",
            "Option proposals is not taken in a batch; send such images to /predict.",
            option="proposals",
        )
    if options.format not in (None, "ndjson"):
        raise Unprocessable(
            "invalid_option",
            "The result of a batch is NDJSON; format=coco is asked of its result.",
            option="format",
        )
    version = runtime.repository.get(options.model).resolve(options.version)
    selection = Selection.resolve(options, version.detector.description)
    check_views(selection.tta, runtime.settings)
    return options


def _predict(runtime: Runtime, options: PredictOptions, request_id: str) -> Predict:
    async def predict(upload: Upload, tell: Tell) -> Predicted:
        runtime.require_ready()
        asked = await ask(runtime, [upload], options, request_id=request_id, progress=tell)
        return asked.answers[0], asked.version

    return predict


def _answer(job: BatchJob, status: int = 200) -> Response:
    return Response(orjson.dumps(job.to_dict()), status, media_type="application/json")
