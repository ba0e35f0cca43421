"""What can go wrong for a client: one hierarchy, with the server's code, sentence and request id."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any


class DetserveError(Exception):
    """The server refused or failed, or there was no answer.

    Attributes:
        message: a sentence that says what was wrong and what to do.
        code: stable, for programs; the server's, or this client's own where there is no answer of it.
        status: the HTTP status; 0 if there is none.
        request_id: under which the server's log has the request.
        details: facts as data.
        retry_after_s: what the server asked to wait before the next try; None if it did not.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int = 0,
        request_id: str | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.request_id = request_id
        self.details = dict(details or {})
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        request = f", request {self.request_id}" if self.request_id else ""
        return f"{self.message} ({self.code}{request})"

    def __reduce__(self) -> tuple[Callable[..., Exception], tuple[Any, ...], dict[str, Any]]:
        # An exception is rebuilt from its arguments, of which most are by keyword here.
        return _rebuild, (type(self), self.message, self.code), self.__dict__


class BadRequest(DetserveError):
    """400: the request is malformed."""


class Unauthorized(DetserveError):
    """401: no token, or a wrong one."""


class Forbidden(DetserveError):
    """403: an admin route from elsewhere, or a path outside of the model root."""


class NotFound(DetserveError):
    """404: there is no such model, version, alias or reload."""


class Conflict(DetserveError):
    """409: a reload is running, a version is not loaded, what was expected has changed."""


class TooLarge(DetserveError):
    """413: a body or an image is over a limit, which the message names."""


class UnsupportedImage(DetserveError):
    """415: not one of the image formats."""


class Unprocessable(DetserveError):
    """422: a bad option, an image that cannot be decoded, a model that fails its checks."""


class QueueFull(DetserveError):
    """429: the server is busy, and stayed so for all tries."""


class ServerFailed(DetserveError):
    """500 and the like: the server's fault; its log has the cause under the request id."""


class NotReady(DetserveError):
    """503: no model is loaded yet, or the server shuts down."""


class DeadlineMissed(DetserveError):
    """504, or no answer within the client's own limit on time (code ``client_timeout``)."""


class OutOfDeviceMemory(DetserveError):
    """507: one image alone does not fit the device, or the server's disk is full."""


class NoConnection(DetserveError):
    """The server cannot be reached, or has closed the connection."""


class InvalidAnswer(DetserveError):
    """What answers is no detserve, or one that this client does not understand."""


class ReloadFailed(DetserveError):
    """A reload or rollback was begun and refused; the old version serves on."""


_KINDS: dict[int, type[DetserveError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    415: UnsupportedImage,
    422: Unprocessable,
    429: QueueFull,
    503: NotReady,
    504: DeadlineMissed,
    507: OutOfDeviceMemory,
}


def error_from_answer(
    status: int, content: bytes, *, retry_after: str | None, request_id: str, url: str
) -> DetserveError:
    """The error that an answer other than success means.

    Args:
        retry_after: its header, in seconds or as a date.
        request_id: of the request, for an answer that names none.
        url: the server's address, for an answer that is not detserve's.
    """
    kind = _KINDS.get(status, ServerFailed if status >= 500 else DetserveError)
    try:
        error = json.loads(content)["error"]
        message, code = error["message"], error["code"]
        if not (isinstance(message, str) and isinstance(code, str)):
            raise TypeError("an error without its sentence")
        details = error.get("details")
    except (ValueError, TypeError, KeyError, AttributeError):
        message = f"{url} answers {status} without saying why; is it a detserve?"
        return kind(
            message,
            code=f"http_{status}",
            status=status,
            request_id=request_id,
            retry_after_s=_seconds(retry_after),
        )
    return kind(
        message,
        code=code,
        status=status,
        request_id=error.get("request_id") or request_id,
        details=details if isinstance(details, dict) else None,
        retry_after_s=_seconds(retry_after),
    )


def _rebuild(kind: type[DetserveError], message: str, code: str) -> DetserveError:
    return kind(message, code=code)


def _seconds(retry_after: str | None) -> float | None:
    """``Retry-After`` (RFC 9110, 10.2.3); None if it is neither seconds nor a date."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            moment = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (zoned - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None
