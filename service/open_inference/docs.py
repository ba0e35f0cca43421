"""OpenAPI of ``/v2``: what its routes take and answer, with examples."""

from __future__ import annotations

from typing import Any

from service.routes import answer_docs, body_docs
from service.schemas.open_inference import (
    IndexEntry,
    InferBody,
    InferResultAnswer,
    LoadAnswer,
    LoadBody,
    ModelMetadataAnswer,
    ProtocolError,
    UnloadAnswer,
    UnloadBody,
)

Docs = dict[int | str, dict[str, Any]]

_ERRORS = {
    400: "The body is not valid JSON: unexpected character.",
    401: "This route needs a token: send Authorization: Bearer <token>.",
    403: "Without an admin token these routes are open to local requests only.",
    404: "There is no model 'car'; there are: shapes.",
    408: "The request body arrived too slowly.",
    409: "Version 3 of 'shapes' is not loaded.",
    413: "The request body has 70000000 bytes or more; the limit is 67108864 bytes.",
    415: "The bytes are not a JPEG, PNG, WebP, BMP, TIFF or GIF image.",
    422: "This model has no output 'boxes'; it has pred_boxes, scores.",
    429: "The queue is full; try again in 1 s.",
    500: "The server failed at this request; its log has the cause under the request id.",
    503: "The server is shutting down. Try another replica.",
    504: "The answer was not ready within 60 s.",
    507: "This image alone does not fit the device.",
}


def error_docs(*statuses: int) -> Docs:
    """OpenAPI responses for errors, each with its example."""
    return {
        status: {
            "model": ProtocolError,
            "description": _ERRORS[status],
            "content": {"application/json": {"example": {"error": _ERRORS[status]}}},
        }
        for status in statuses
    }


MODEL_DOCS: Docs = answer_docs((200, ModelMetadataAnswer, "The model.")) | error_docs(
    401, 404, 409, 422, 503
)

INFER_DOCS: Docs = answer_docs((200, InferResultAnswer, "What was found.")) | error_docs(
    400, 401, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504, 507
)
INFER_DOCS[200]["headers"] = {
    "Inference-Header-Content-Length": {
        "description": "Bytes of the JSON, if raw bytes of outputs follow it.",
        "schema": {"type": "integer"},
    }
}
INFER_DOCS[200]["content"] = {
    "application/json": {
        "example": {
            "model_name": "shapes",
            "model_version": "1",
            "id": "42",
            "outputs": [
                {
                    "name": "pred_boxes",
                    "datatype": "FP32",
                    "shape": [1, 4],
                    "data": [12.5, 8.25, 40.0, 36.5],
                },
                {"name": "scores", "datatype": "FP32", "shape": [1], "data": [0.98]},
            ],
        }
    },
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
}

_EXAMPLE = {
    "id": "42",
    "parameters": {"score_threshold": 0.5},
    "inputs": [{"name": "IMAGE", "datatype": "BYTES", "shape": [1], "data": ["/9j/4AAQSkZJRg=="]}],
    "outputs": [{"name": "pred_boxes"}, {"name": "scores"}],
}
INFER_BODY = body_docs(InferBody, {"file": {"value": _EXAMPLE}}, required=True)
INFER_BODY["requestBody"]["content"]["application/octet-stream"] = {
    "schema": {
        "type": "string",
        "format": "binary",
        "description": "The JSON with the raw bytes of the inputs behind it; the header "
        "Inference-Header-Content-Length tells how long the JSON is.",
    }
}

INDEX_DOCS: Docs = {
    200: {"model": list[IndexEntry], "description": "The versions."},
    **error_docs(400, 401, 408, 413, 415, 422),
}

_REFUSED = error_docs(400, 401, 403, 404, 408, 409, 413, 415, 422, 503, 507)
LOAD_DOCS: Docs = answer_docs((200, LoadAnswer, "It answers.")) | _REFUSED
LOAD_BODY = body_docs(
    LoadBody,
    {"again": {"value": {}}, "version": {"value": {"parameters": {"version": "2"}}}},
)
UNLOAD_DOCS: Docs = answer_docs((200, UnloadAnswer, "It is on disk alone.")) | _REFUSED
UNLOAD_BODY = body_docs(UnloadBody, {"version": {"value": {"parameters": {"version": "2"}}}})
