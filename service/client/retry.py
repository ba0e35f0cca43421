"""When a request is sent again, and after how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from service.client.errors import DetserveError

_NOTHING_BEGAN = frozenset({"not_ready", "draining"})
"""Codes of a 503 that comes before anything was done, so that even a change may be asked for again."""

_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout)


@dataclass(frozen=True)
class Retry:
    """How often a request is sent again on 429, on 503 and when the connection breaks.

    The pause before try k is drawn from 0 to ``base_s * 2**(k - 2)``, at most ``max_s`` ("full jitter"),
    so that clients which were turned away together do not come back together. What the server asks for
    in ``Retry-After`` is waited in full before it.

    Attributes:
        attempts: tries in all; 1 is without a second one.
        total_s: no try begins later than so many seconds after the first.
        base_s, max_s: of the pause, in seconds.
        jitter: draws from 0 to 1.
    """

    attempts: int = 5
    total_s: float = 30.0
    base_s: float = 0.2
    max_s: float = 5.0
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        """Raises :class:`ValueError` for bounds that are none."""
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}; one try is the least.")
        if not (self.total_s >= 0 and self.base_s >= 0 and self.max_s >= 0):
            raise ValueError("total_s, base_s and max_s are seconds, 0 or more.")

    def pause_s(self, tried: int, error: DetserveError) -> float:
        """Seconds to wait after ``tried`` tries, of which the last ended with ``error``."""
        most = min(self.max_s, self.base_s * 2.0 ** min(tried - 1, 60))
        return (error.retry_after_s or 0.0) + self.jitter() * most


def may_repeat(error: DetserveError, *, idempotent: bool) -> bool:
    """Whether an answer allows to send the same request again.

    Args:
        idempotent: whether it does no harm if the first one was carried out after all.
    """
    if error.status == 429:
        return True
    return error.status == 503 and (idempotent or error.code in _NOTHING_BEGAN)


def may_reconnect(error: httpx.RequestError, *, idempotent: bool) -> bool:
    """Whether a broken connection allows to send the same request again.

    A server that is silent is not asked again: it may well be at work on the first request.
    """
    return isinstance(error, _BROKEN if idempotent else _NEVER_SENT)
