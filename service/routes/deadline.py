"""How long a request may take: the server's limit, and the client's own in ``X-Request-Timeout-Ms``."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.requests import Request

from service.errors import DeadlineMissed, Unprocessable

HEADER = "X-Request-Timeout-Ms"
_MILLISECONDS = re.compile(r"0*[1-9][0-9]{0,9}")

T = TypeVar("T")

DEADLINE_PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Milliseconds from the head of the request within which the client needs the answer, "
    "if these are less than the server's request_timeout_s. Then the answer is 504, and what still "
    "waits for the model is dropped.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 9_999_999_999},
    "example": 2000,
}
"""The header in OpenAPI."""


class Deadline:
    """The end of a request's time.

    The server's limit counts from the moment that the body is there, since slow bodies have a limit of
    their own; the client's counts from the head of the request, as it does for the client.
    """

    def __init__(self, request: Request, limit_s: float, *, began: float | None = None) -> None:
        """Read the header.

        Args:
            request: whose it is.
            limit_s: the server's, in seconds.
            began: when the request came, on the monotonic clock; now, if None.

        Raises:
            Unprocessable: ``invalid_timeout``.
        """
        self._limit_s = limit_s
        self._own_s = _own_limit(request)
        began = time.monotonic() if began is None else began
        self._ends = began + (self._own_s or 0.0)

    def left(self) -> tuple[float, float]:
        """Seconds that are left, and the limit in seconds that ends them.

        Raises:
            DeadlineMissed: none are.
        """
        if self._own_s is None:
            return self._limit_s, self._limit_s
        left = self._ends - time.monotonic()
        if left <= 0:
            raise _missed(self._own_s)
        return (left, self._own_s) if left < self._limit_s else (self._limit_s, self._limit_s)

    def within(self, work: Awaitable[T]) -> Awaitable[T]:
        """The result of ``work`` before the model's part, which only the client's limit ends.

        Raises:
            DeadlineMissed: when it is awaited.
        """
        return work if self._own_s is None else self._within(work, self._own_s)

    async def _within(self, work: Awaitable[T], own_s: float) -> T:
        try:
            async with asyncio.timeout(self._ends - time.monotonic()) as timeout:
                return await work
        except TimeoutError:
            if not timeout.expired():
                raise
            raise _missed(own_s) from None


def _own_limit(request: Request) -> float | None:
    """Seconds that the client gives its request, None if it says nothing."""
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    if len(given) > 1 or not _MILLISECONDS.fullmatch(given[0]):
        raise Unprocessable(
            "invalid_timeout",
            f"{HEADER} is a whole number of milliseconds, from 1 to 9999999999; leave it out for the "
            "server's own limit.",
            header=HEADER,
        )
    return int(given[0]) / 1000


def _missed(limit_s: float) -> DeadlineMissed:
    return DeadlineMissed(
        "deadline_missed",
        f"The answer was not ready within the {limit_s:g} s of {HEADER}. Give it more time, or send fewer "
        "images at a time.",
        limit_s=limit_s,
    )
