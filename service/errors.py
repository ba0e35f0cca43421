"""Every error that a client can meet: one hierarchy, mapped to HTTP in one place.

Raise one as ``TooLarge("image_too_large", "The image has ...; the limit is ...", limit=..., value=...)``:
a stable code for programs, a sentence for people that says what to do, and facts as details.
"""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An answer other than success.

    Attributes:
        status: the HTTP status code.
        code: snake_case, stable, for programs.
        message: a sentence that says what was wrong and what to do.
        details: facts as data, JSON-serialisable.
        headers: extra response headers, such as ``Retry-After``.
    """

    status = 500

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.headers: dict[str, str] = {}

    def body(self) -> dict[str, Any]:
        """The error as it stands in JSON, without the request id."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            body["details"] = self.details
        return body


class BadRequest(ApiError):
    """Malformed JSON, base64 or multipart."""

    status = 400


class Unauthorized(ApiError):
    """No token, or a wrong one."""

    status = 401


class Forbidden(ApiError):
    """Not allowed: an admin route from elsewhere, a path outside the model root."""

    status = 403


class NotFound(ApiError):
    """Unknown model, version or job."""

    status = 404


class NotAcceptable(ApiError):
    """Every form that an answer can have is ruled out by the ``Accept`` header."""

    status = 406


class RequestTimeout(ApiError):
    """The request arrived too slowly."""

    status = 408


class Conflict(ApiError):
    """A reload of that model is running."""

    status = 409


class TooLarge(ApiError):
    """Over a limit on bytes, pixels, sides, frames, scans or images; the details hold both numbers."""

    status = 413


class UnsupportedMediaType(ApiError):
    """Not an allowed image format, judged by content."""

    status = 415


class Unprocessable(ApiError):
    """A bad option or value, an image that cannot be decoded, a checkpoint that fails its checks."""

    status = 422


class QueueFull(ApiError):
    """The queue is full; ``Retry-After`` says when to come back."""

    status = 429

    def __init__(self, code: str, message: str, *, retry_after: int, **details: Any) -> None:
        super().__init__(code, message, retry_after_s=retry_after, **details)
        self.headers["Retry-After"] = str(retry_after)


class ClientDisconnected(ApiError):
    """The client left; seen in logs and metrics only."""

    status = 499


class InternalError(ApiError):
    """Our fault. The log has the traceback; the client gets the request id."""

    status = 500


class NotOffered(ApiError):
    """Another's protocol knows it, and this server does not do it."""

    status = 501


class Unavailable(ApiError):
    """Not ready yet, or draining."""

    status = 503


class DeadlineMissed(ApiError):
    """The request waited longer than its deadline."""

    status = 504


class OutOfDeviceMemory(ApiError):
    """One image alone does not fit the device."""

    status = 507
