"""What the OpenAPI document says of all routes together: groups, names of operations, tokens, examples of
answers, and the headers that every answer has."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.answer_examples import ANSWER_EXAMPLES
from service.routes import error_docs

DESCRIPTION = """\
Every answer carries `X-Request-ID`: the one that came, if it is 1 to 128 letters, digits, dots, dashes
and underscores, else a new one; the log has it. A request with a valid W3C `traceparent` is answered with
one that names the server's span, and with its `tracestate`; the log has the ids of trace and span.
"""

TAGS: list[dict[str, str]] = [
    {"name": "predict", "description": "Images in, instances out: at once, or many as a job."},
    {"name": "models", "description": "What is served: models, versions, classes."},
    {
        "name": "admin",
        "description": "Change what is served: upload, load, swap, roll back, shadow. With the admin "
        "token, or without one from the server's own machine. What is sent by POST or PUT has "
        "`Content-Type: application/json`, with or without a body; files are sent as "
        "`application/octet-stream`.",
    },
    {"name": "health", "description": "Probes and metrics; never behind a token."},
    {
        "name": "open inference",
        "description": "The Open Inference Protocol v2, as clients of Triton and KServe speak it.",
    },
    {"name": "label-studio", "description": "A machine learning backend for Label Studio."},
    {"name": "cvat", "description": "A function for CVAT's automatic annotation."},
]

SECURITY_SCHEMES = {
    "inference_token": {
        "type": "http",
        "scheme": "bearer",
        "description": "Where the server was started with an inference token: that one, or the admin's.",
    },
    "admin_token": {
        "type": "http",
        "scheme": "bearer",
        "description": "Where the server was started with an admin token.",
    },
}

HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "The id under which the log has the request: the one that came, or a new one.",
        "required": True,
        "schema": {"type": "string"},
        "example": "4f1c0a",
    },
    "traceparent": {
        "description": "The server's span, if a valid traceparent came.",
        "schema": {"type": "string"},
        "example": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    },
    "tracestate": {
        "description": "As it came, beside traceparent.",
        "schema": {"type": "string"},
        "example": "vendor=1",
    },
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
        "example": 2,
    },
}

_UNUSED = "HTTPValidationError"
_HEADERS_TOO_LARGE = error_docs(
    (
        431,
        "headers_too_large",
        "The request line and headers are over the limit of 32768 bytes.",
    )
)[431]
_HEADERS_TOO_LARGE["content"]["application/json"]["schema"] = {
    "$ref": "#/components/schemas/" + _HEADERS_TOO_LARGE.pop("model").__name__
}


def operation_id(route: APIRoute) -> str:
    """The name of a route's function; a foreign protocol's has the protocol before it."""
    return f"v2_{route.name}" if "open inference" in route.tags else route.name


def complete(app: FastAPI) -> None:
    """Let the app's document say which routes take a token, no more of errors than is so, and what all
    answers have; examples come in here, since FastAPI leaves out what is null in those of a route."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            for item in document["paths"].values():
                for operation in item.values():
                    _complete_operation(operation)
            components = document.setdefault("components", {})
            components["securitySchemes"] = SECURITY_SCHEMES
            components["headers"] = HEADERS
            for name in (_UNUSED, "ValidationError"):
                components.get("schemas", {}).pop(name, None)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _complete_operation(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    # FastAPI adds it to every route with a part of the path that varies; these are all text.
    if _UNUSED in str(responses.get("422", {})):
        del responses["422"]
    for status, response in responses.items():
        headers = ["X-Request-ID", "traceparent", "tracestate"]
        headers += ["Retry-After"] if status == "429" else []
        response["headers"] = response.get("headers", {}) | {
            name: _header(name) for name in headers
        }
        for media, content in response.get("content", {}).items():
            key = operation["operationId"], status, media
            if key in ANSWER_EXAMPLES:
                content["example"] = ANSWER_EXAMPLES[key]
    # Answered before there is a span.
    responses["431"] = _HEADERS_TOO_LARGE | {"headers": {"X-Request-ID": _header("X-Request-ID")}}
    if "401" in responses:
        examples = responses["401"]["content"]["application/json"].get("examples", {})
        admin = "403" in responses and "token_required" not in examples
        # The first, nothing: whether there is a token is the operator's to say.
        operation["security"] = [{}, {"admin_token" if admin else "inference_token": []}]


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}
