"""Label Studio's ML backend under ``/label-studio``: predictions for the tasks of its projects.

What Label Studio is told as the address is ``http://host:8000/label-studio``, which is the model that
answers requests which name none, or ``http://host:8000/label-studio/models/<name>``.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.audit import admin_call
from service.errors import NotOffered, Unprocessable
from service.inference.detector import ModelDescription
from service.label_studio.config import Control, parse_label_config
from service.label_studio.labels import match_labels
from service.label_studio.tasks import Prediction, options_for, predict_tasks, version_name
from service.repository.served import ServedModel
from service.routes import answer_docs, body_docs, error_docs, runtime_of
from service.routes.asking import Asked, ask, counting_refusals
from service.routes.disconnect import unless_disconnected
from service.runtime import Runtime
from service.schemas.label_studio import (
    LabelStudioEvent,
    LabelStudioEventAnswer,
    LabelStudioHealth,
    LabelStudioPredict,
    LabelStudioPredictions,
    LabelStudioSetup,
    LabelStudioUnknownEvent,
    LabelStudioVersion,
)
from service.uploads import Upload, parse_json, read_body

PATIENCE_S = 90.0
"""Label Studio waits 100 seconds for predictions (``ML_TIMEOUT_PREDICT``) and then drops all of them."""

MAX_JSON_VALUES = 1_000_000
"""A task comes with its annotations, of which a brush mask alone is thousands of numbers."""

ANNOTATION_EVENTS = frozenset({"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED"})
"""Those that an ML backend knows besides ``START_TRAINING``; webhooks can send many more."""

logger = logging.getLogger(__name__)
B = TypeVar("B", bound=BaseModel)

_CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="Disc" predicted_values="disc"/></RectangleLabels></View>'
)
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6"
    "kgAAAABJRU5ErkJggg=="
)
_REFUSED = (
    (401, "token_required", "This route needs a token: send Authorization: Bearer <token>."),
    (404, "unknown_model", "There is no model 'car'; there are: shapes."),
    (503, "not_ready", "No model is loaded yet. Try again soon."),
)
_BODY = (
    (400, "malformed_json", "The JSON body is not an object."),
    (408, "request_timeout", "The request body arrived too slowly."),
    (413, "body_too_large", "The request body is over the limit."),
    (415, "unsupported_content_encoding", "Compressed request bodies are not accepted."),
    (422, "invalid_option", "tasks: Field required."),
)
_CONFIG_REFUSED = (
    (413, "label_config_too_large", "The label config is larger than 1000000 bytes."),
    (422, "invalid_label_config", "The label config cannot be used: it is not XML."),
    (422, "score_threshold_too_low", "score_threshold 0.01 is below the model's own, 0.05."),
)


async def health(request: Request) -> Response:
    """Whether there is a model to predict with."""
    runtime, model = _model(request)
    runtime.require_ready()
    return _json(
        {"status": "UP", "model_class": model.current.detector.description.architecture}, 200
    )


async def setup(request: Request) -> Response:
    """Take the label config of a project up, check it, and say which version will predict.

    Nothing of it is kept: predictions bring their own. The address and the token of Label Studio that
    a request claims are never used; the server has its own settings for them.
    """
    runtime, model = _model(request)
    runtime.require_ready()
    body = await _read(request, runtime, LabelStudioSetup)
    version = model.current
    controls = _controls(body.label_config)
    options_for(controls, version.detector.description, name=model.name)
    _note_labels(controls, version.detector.description)
    return _json({"model_version": version_name(version)}, 200)


async def predict(request: Request) -> Response:
    """Predict tasks: exactly one entry for each, in their order, without regions for one that failed.

    Rectangles, polygons, brush masks and keypoints are drawn with those controls of the label config
    that there are. Labels stand for the model's classes by `predicted_values`, or by name.
    """
    runtime, model = _model(request)
    runtime.require_ready()
    with counting_refusals(runtime, model.name):
        runtime.scheduler.require_room()
    body = await _read(request, runtime, LabelStudioPredict)
    controls = _controls(body.label_config)
    options = options_for(controls, model.current.detector.description, name=model.name)

    def predicted(uploads: Sequence[Upload], timeout_s: float) -> Awaitable[Asked]:
        return ask(
            runtime, uploads, options, request_id=request.state.request_id, timeout_s=timeout_s
        )

    predictions = await unless_disconnected(
        request,
        predict_tasks(
            body.tasks,
            controls,
            fetch=runtime.task_images.get,
            ask=predicted,
            workers=runtime.workers,
            budget_s=min(runtime.settings.request_timeout_s, PATIENCE_S),
        ),
    )
    _count(request, runtime, model, predictions)
    results = [prediction.to_dict(model.current) for prediction in predictions]
    return _json({"results": results}, 200)


async def webhook(request: Request) -> Response:
    """Take an event of Label Studio. None changes anything here: training is `detserve train`'s.

    Events of annotations are answered with 201, those that the protocol does not know with 200.
    `START_TRAINING` needs what an admin needs, and is answered with 501.
    """
    runtime, model = _model(request)
    body = await _read(request, runtime, LabelStudioEvent)
    if body.action == "START_TRAINING":
        async with admin_call(request, "start_training", model=model.name):
            raise NotOffered(
                "training_not_offered",
                "A server that answers does not train: training is a command of its own. Export the "
                "annotations as COCO, run detserve train with --repository, and take the version up "
                "with POST /reload or detserve models promote.",
            )
    if body.action in ANNOTATION_EVENTS:
        return _json({"result": None, "status": "ok"}, 201)
    return _json({"status": "Unknown event"}, 200)


_ROUTES: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]], dict[str, Any]], ...] = (
    ("GET", "", health, {"include_in_schema": False}),
    (
        "GET",
        "/health",
        health,
        {"responses": answer_docs((200, LabelStudioHealth, "It is up.")) | error_docs(*_REFUSED)},
    ),
    (
        "POST",
        "/setup",
        setup,
        {
            "responses": answer_docs((200, LabelStudioVersion, "The version that will predict."))
            | error_docs(*_REFUSED, *_BODY, *_CONFIG_REFUSED),
            "openapi_extra": body_docs(
                LabelStudioSetup,
                {"project": {"value": {"project": "3.1746612998", "schema": _CONFIG}}},
                required=True,
            ),
        },
    ),
    (
        "POST",
        "/predict",
        predict,
        {
            "responses": answer_docs((200, LabelStudioPredictions, "One entry for each task."))
            | error_docs(
                *_REFUSED,
                *_BODY,
                *_CONFIG_REFUSED,
                (429, "queue_full", "The server is busy with 128 images. Try again in 4 s."),
                (500, "image_failed", "The server failed on this image; its log has the reason."),
                (504, "deadline_missed", "Not one of 3 tasks was done within 60 s."),
                (507, "out_of_device_memory", "This image alone does not fit the device."),
            ),
            "openapi_extra": body_docs(
                LabelStudioPredict,
                {
                    "task": {
                        "value": {
                            "tasks": [{"id": 1, "data": {"image": _PIXEL}}],
                            "label_config": _CONFIG,
                        }
                    }
                },
                required=True,
            ),
        },
    ),
    (
        "POST",
        "/webhook",
        webhook,
        {
            "responses": answer_docs(
                (200, LabelStudioUnknownEvent, "An event that the protocol does not know."),
                (201, LabelStudioEventAnswer, "Taken, and nothing done."),
            )
            | error_docs(
                *_REFUSED,
                *_BODY,
                (401, "admin_token_required", "This route needs the admin token."),
                (403, "admin_forbidden", "Admin routes are open to local requests only."),
                (
                    501,
                    "training_not_offered",
                    "A server that answers does not train: training is a command of its own.",
                ),
            ),
            "openapi_extra": body_docs(
                LabelStudioEvent,
                {"annotation": {"value": {"action": "ANNOTATION_CREATED"}}},
                required=True,
            ),
        },
    ),
)
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}


def _router() -> APIRouter:
    """Each route twice: for the default model, and for one that its path names."""
    router = APIRouter(tags=["label-studio"])
    for method, path, endpoint, documented in _ROUTES:
        for base, which in (
            ("/label-studio", ""),
            ("/label-studio/models/{name}", "_of_model"),
        ):
            extra = dict(documented.get("openapi_extra", {}))
            if which:
                extra["parameters"] = [_NAME]
            router.add_api_route(
                base + path,
                endpoint,
                methods=[method],
                operation_id=f"label_studio_{endpoint.__name__}{which}_{method.lower()}",
                **(documented | {"openapi_extra": extra}),
            )
    return router


def _model(request: Request) -> tuple[Runtime, ServedModel]:
    """The model that the path names, or the default one. Raises what the token's guard raises."""
    runtime = runtime_of(request)
    runtime.inference.check(request)
    return runtime, runtime.repository.get(request.path_params.get("name"))


async def _read(request: Request, runtime: Runtime, schema: type[B]) -> B:
    """The body. Raises :class:`ApiError` where it is none."""
    limits = dataclasses.replace(runtime.upload_limits, max_json_values=MAX_JSON_VALUES)
    parsed = parse_json(await read_body(request, limits), limits)
    try:
        return schema.model_validate(parsed)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))[:64] or "body"
        raise Unprocessable("invalid_option", f"{place}: {first['msg']}.", option=place) from None


def _controls(label_config: str) -> tuple[Control, ...]:
    controls = parse_label_config(label_config) if label_config.strip() else ()
    if not controls:
        logger.warning(
            "The label config has no RectangleLabels, PolygonLabels, BrushLabels or KeyPointLabels on an "
            "Image with a value such as $image: there is nothing to predict"
        )
    return controls


def _note_labels(controls: Sequence[Control], model: ModelDescription) -> None:
    """Say once, when a project is connected, which of the model's classes it has no label for."""
    for control in controls:
        points = control.kind == "keypointlabels"
        names = model.keypoint_names if points else model.class_names
        known = match_labels(names, control.labels)
        left_out = [name for index, name in enumerate(names) if index not in known]
        if left_out:
            shown = ", ".join(left_out[:20]) + (", ..." if len(left_out) > 20 else "")
            logger.warning(
                "Label Studio's control %s has no label for %s; give one predicted_values",
                control.name[:100],
                shown,
            )


def _count(
    request: Request, runtime: Runtime, model: ServedModel, predictions: Sequence[Prediction]
) -> None:
    dropped = sum(prediction.found.dropped for prediction in predictions)
    runtime.metrics.unlabelled.labels(model.name).inc(dropped)
    versions = [prediction.version for prediction in predictions if prediction.version is not None]
    facts = {
        "images": len(predictions),
        "failed": sum(prediction.failed for prediction in predictions),
        "unlabelled": dropped,
    }
    version = versions[-1] if versions else model.current
    request.state.log.update(
        model=f"{version.model}:{version.label}", **{k: v for k, v in facts.items() if v}
    )


def _json(content: Any, status: int) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


router = _router()
