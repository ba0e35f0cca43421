"""CVAT's function contract under ``/cvat``: one picture in base64, a list of shapes."""

from __future__ import annotations

import functools
from typing import Any, get_args

import orjson
from fastapi import APIRouter
from pydantic import RootModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.cvat.function_yaml import function_yaml
from service.cvat.shapes import Shape, check_shape, encode_shapes
from service.errors import InternalError, Unprocessable
from service.routes import answer_docs, body_docs, error_docs, runtime_of
from service.routes.asking import ask, counting_refusals
from service.routes.disconnect import unless_disconnected
from service.schemas.cvat import CvatRequest, CvatShape
from service.schemas.options import PredictOptions
from service.uploads import Upload, parse_json, read_body
from service.uploads.json_body import decode_base64

router = APIRouter(tags=["cvat"])

_SHAPES: tuple[Shape, ...] = get_args(Shape)
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
_PARAMETERS = [
    {
        "name": "shape",
        "in": "query",
        "description": "Boxes, outlines, masks as pixels, or masks as run lengths.",
        "schema": {"type": "string", "enum": list(_SHAPES), "default": "rectangle"},
    },
    {
        "name": "model",
        "in": "query",
        "description": "Name of the model; default: the first one served.",
        "schema": {"type": "string"},
    },
]
_URL = {
    "name": "url",
    "in": "query",
    "description": "Of this server, as the function reaches it; default: as this request did.",
    "schema": {"type": "string"},
}
_REFUSED = (
    (401, "token_required", "This route needs a token: send Authorization: Bearer <token>."),
    (404, "unknown_model", "There is no model 'car'; there are: shapes."),
    (422, "invalid_option", "Option shape is one of rectangle, polygon, mask, rle."),
    (422, "shape_not_supported", "This model finds nothing that shape=mask could show."),
    (503, "not_ready", "No model is loaded yet. Try again soon."),
)


class CvatShapes(RootModel[list[CvatShape]]):
    """Answer of ``POST /cvat/``."""


@router.post(
    "/cvat/",
    operation_id="cvat_detect",
    responses=answer_docs((200, CvatShapes, "The shapes, best first."))
    | error_docs(
        *_REFUSED,
        (400, "invalid_base64", "The base64 holds a character outside its alphabet."),
        (400, "malformed_json", "The JSON body is not an object."),
        (408, "request_timeout", "The request body arrived too slowly."),
        (413, "image_too_large", "The image has more pixels than the limit."),
        (415, "unsupported_image_format", "This is not an image that we know."),
        (422, "score_threshold_too_low", "score_threshold 0.01 is below the model's own, 0.05."),
        (422, "invalid_image", "The JPEG image is broken or cut short."),
        (429, "queue_full", "The server is busy with 128 images. Try again in 4 s."),
        (500, "image_failed", "The server failed on this image; its log has the reason."),
        (504, "deadline_missed", "The answer was not ready within 60 s."),
        (507, "out_of_device_memory", "This image alone does not fit the device."),
    ),
    openapi_extra=body_docs(
        CvatRequest, {"picture": {"value": {"image": _PIXEL, "threshold": 0.5}}}, required=True
    )
    | {"parameters": _PARAMETERS},
)
async def detect(request: Request) -> Response:
    """Detect objects in one picture, as a function of CVAT answers.

    A threshold below the model's own is refused, since the model computes nothing there.
    """
    runtime = runtime_of(request)
    runtime.inference.check(request)
    runtime.require_ready()
    shape, name = _shape(request), request.query_params.get("model")
    model = runtime.repository.get(name)
    with counting_refusals(runtime, model.name):
        runtime.scheduler.require_room()
    body = _parsed(
        parse_json(await read_body(request, runtime.upload_limits), runtime.upload_limits)
    )
    check_shape(shape, model.current.detector.description)
    options = PredictOptions.parse(
        {
            "model": model.name,
            "score_threshold": body.threshold,
            "masks": "none" if shape == "rectangle" else "rle",
            "segmentation": "none",
        }
    )
    upload = Upload.of("image", decode_base64(body.image))
    asked = await ask(
        runtime,
        [upload],
        options,
        request_id=request.state.request_id,
        wait=functools.partial(unless_disconnected, request),
    )
    [answer] = asked.answers
    if answer.error is not None:
        raise answer.error
    instances = (answer.outputs or {}).get("instances")
    if instances is None or answer.width is None or answer.height is None:
        raise InternalError("image_failed", "The model has found no instances, not even none.")
    shapes = await runtime.workers.finish(
        encode_shapes, instances, shape, width=answer.width, height=answer.height
    )
    request.state.log.update(
        model=f"{model.name}:{asked.version.label}", images=1, batch=answer.batch_size
    )
    return Response(orjson.dumps(shapes), media_type="application/json")


@router.get(
    "/cvat/function.yaml",
    operation_id="cvat_function_yaml",
    response_class=Response,
    responses=error_docs(*_REFUSED)
    | {
        200: {
            "description": "The file.",
            "content": {"application/yaml": {"schema": {"type": "object"}}},
        }
    },
    openapi_extra={"parameters": [*_PARAMETERS, _URL]},
)
async def function(request: Request) -> Response:
    """The description of a function that asks this server, for `nuctl deploy`: labels and all."""
    runtime = runtime_of(request)
    runtime.inference.check(request)
    shape = _shape(request)
    model = runtime.repository.get(request.query_params.get("model"))
    description = model.current.detector.description
    check_shape(shape, description)
    url = request.query_params.get("url") or str(request.base_url).rstrip("/")
    text = function_yaml(model.name, description, shape, url=url)
    return Response(text, media_type="application/yaml")


def _shape(request: Request) -> Shape:
    given = request.query_params.get("shape", "rectangle")
    for shape in _SHAPES:
        if shape == given:
            return shape
    raise Unprocessable(
        "invalid_option", f"Option shape is one of {', '.join(_SHAPES)}.", option="shape"
    )


def _parsed(body: dict[str, Any]) -> CvatRequest:
    try:
        return CvatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))[:64]
        raise Unprocessable("invalid_option", f"{place}: {first['msg']}.", option=place) from None
