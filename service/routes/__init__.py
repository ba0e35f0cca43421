"""One file per protocol; each is a router over the same runtime."""

from __future__ import annotations

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
