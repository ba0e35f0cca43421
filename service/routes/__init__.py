"""One file per protocol; each is a router over the same runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request

from service.runtime import Runtime
from service.schemas.answers import ErrorAnswer


def runtime_of(request: Request) -> Runtime:
    """The parts of the server that takes this request."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def answer_docs(*answers: tuple[int, type[BaseModel], str]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses: (status, schema, description)."""
    return {status: {"model": model, "description": text} for status, model, text in answers}


def error_docs(*examples: tuple[int, str, str]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for errors: (status, code, message), each with its example."""
    documented: dict[int | str, dict[str, Any]] = {}
    for status, code, message in examples:
        entry = documented.setdefault(
            status,
            {
                "model": ErrorAnswer,
                "description": message,
                "content": {"application/json": {"examples": {}}},
            },
        )
        body = {"error": {"code": code, "message": message, "request_id": "4f1c0a"}}
        entry["content"]["application/json"]["examples"][code] = {"value": body}
    return documented


def body_docs(
    schema: type[BaseModel], examples: Mapping[str, Any], *, required: bool = False
) -> dict[str, Any]:
    """OpenAPI of a JSON body that the route itself parses.

    Args:
        schema: of the body. What it refers to is put in place of the reference: FastAPI collects the
            schemas that it parses with, and this is none of them.
        examples: by name, each ``{"value": body}``, with a ``summary`` if it needs one.
        required: whether there must be a body.
    """
    content = {"schema": inlined_schema(schema), "examples": dict(examples)}
    return {"requestBody": {"required": required, "content": {"application/json": content}}}


def inlined_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model, with what it refers to in the place of each reference."""
    document = schema.model_json_schema()
    definitions = document.pop("$defs", {})

    def inlined(node: Any) -> Any:
        if isinstance(node, list):
            return [inlined(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            found = definitions[node["$ref"].removeprefix("#/$defs/")]
            return inlined(found | {key: value for key, value in node.items() if key != "$ref"})
        return {key: inlined(value) for key, value in node.items()}

    whole: dict[str, Any] = inlined(document)
    return whole
