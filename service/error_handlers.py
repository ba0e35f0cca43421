"""The one place where errors become HTTP answers, all in the shape ``{"error": {...}}``."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service.errors import ApiError, BadRequest, ClientDisconnected, InternalError, Unprocessable

_MAX_PROBLEMS = 20
_MAX_SHOWN = 80


def error_response(error: ApiError, request_id: str) -> Response:
    """The answer that ``error`` means: its status, its headers, its body with the request id."""
    body = error.body()
    shaped = {"code": body.pop("code"), "message": body.pop("message"), "request_id": request_id}
    try:
        content = orjson.dumps({"error": shaped | body}, default=str)
    except TypeError:  # a number of a client's that has more than 64 bits, shown back to it
        content = json.dumps({"error": shaped | body}, default=str).encode()
    return Response(
        content, error.status, headers=dict(error.headers), media_type="application/json"
    )


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error that a route or the framework raises in our shape.

    What is none of these is a bug of ours: ``RequestContextMiddleware`` logs it and answers 500,
    unless Starlette's own outermost layer has answered it by then, which asks for the answer here.
    """
    app.add_exception_handler(ApiError, _handle)
    app.add_exception_handler(HTTPException, _handle)
    app.add_exception_handler(RequestValidationError, _handle)
    app.add_exception_handler(ClientDisconnect, _handle)
    app.add_exception_handler(Exception, _handle_bug)


def as_api_error(error: Exception) -> ApiError | None:
    """``error`` as one of ours, or None when it is a bug and no answer.

    Knows Starlette's ``HTTPException`` and ``ClientDisconnect`` and FastAPI's
    ``RequestValidationError``.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ClientDisconnect):
        return ClientDisconnected("client_disconnected", "The client left before the answer.")
    if isinstance(error, RequestValidationError):
        return _from_validation(error)
    if isinstance(error, HTTPException):
        return _from_http(error)
    return None


async def _handle(request: Request, error: Exception) -> Response:
    api_error = as_api_error(error)
    if api_error is None:  # unreachable while only the four kinds above are installed
        raise error
    return error_response(api_error, request.scope.get("state", {}).get("request_id", ""))


async def _handle_bug(request: Request, error: Exception) -> Response:
    return error_response(internal_error(), request.scope.get("state", {}).get("request_id", ""))


def internal_error() -> InternalError:
    """The answer to a request that met a bug of ours."""
    return InternalError(
        "internal_error",
        "The server failed at this request; its log has the cause under the request id.",
    )


def _from_http(error: HTTPException) -> ApiError:
    phrase = HTTPStatus(error.status_code).phrase
    message = str(error.detail)
    if error.status_code == 404 and message == phrase:
        message = "Nothing is served at this path; /docs lists the routes."
    elif error.status_code == 405 and message == phrase:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"This path does not take this method{f'; it takes {allowed}' * bool(allowed)}."
    api_error = ApiError(re.sub(r"\W+", "_", phrase.lower()), message)
    api_error.status = error.status_code
    api_error.headers.update(error.headers or {})
    return api_error


def _from_validation(error: RequestValidationError) -> ApiError:
    problems = list(error.errors())
    if any(problem["type"] == "json_invalid" for problem in problems):
        return BadRequest("malformed_json", "The request body is not valid JSON.")
    fields = [_describe(problem) for problem in problems[:_MAX_PROBLEMS]]
    sentences = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
    return Unprocessable("invalid_option", f"{sentences}.", errors=fields)


def _describe(problem: dict[str, Any]) -> dict[str, str]:
    """One of pydantic's problems without its ``ctx`` and URL, the value shortened."""
    where, *path = [str(part) for part in problem["loc"]] or ["request"]
    message = str(problem["msg"])
    value = problem.get("input")
    if problem["type"] != "missing" and isinstance(value, str | int | float | bool):
        shown = repr(value)
        message += f" (got {shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + '...'})"
    return {"field": ".".join(path) or where, "in": where, "message": message}
