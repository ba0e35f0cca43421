"""How a call goes, apart from who carries it out: a generator that yields what is to be done next.

The sync and the async client drive the same flows; all that differs is how they send, wait and work.
Tests drive them without a network and without time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

import httpx

from service.client.errors import DeadlineMissed, DetserveError, NoConnection, error_from_answer
from service.client.retry import Retry, may_reconnect, may_repeat

T = TypeVar("T")
CONNECT_S = 10.0


@dataclass(frozen=True)
class Send:
    """Send a request; its answer comes back, or :class:`httpx.RequestError` is thrown in.

    Attributes:
        params: the query.
        files: images of a form as (name, bytes, content type); with ``content`` there are none.
        content: the body.
        timeout_s: the longest silence.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Sequence[tuple[str, str]] = ()
    files: Sequence[tuple[str, bytes, str]] = field(default=(), repr=False)
    content: bytes | None = field(default=None, repr=False)
    timeout_s: float = 60.0

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """As the request of one of httpx's clients."""
        return http.build_request(
            self.method,
            self.url,
            headers=dict(self.headers),
            params=list(self.params) or None,
            files=[("images", file) for file in self.files] or None,
            content=self.content,
            timeout=httpx.Timeout(self.timeout_s, connect=min(CONNECT_S, self.timeout_s)),
        )


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Call this, which takes the processor's or the disk's time; the result comes back."""

    run: Callable[[], Any]


Flow: TypeAlias = Generator[Send | Pause | Work, Any, T]


def exchange(
    request: Send,
    *,
    retry: Retry,
    clock: Callable[[], float],
    idempotent: bool = True,
    deadline_s: float | None = None,
) -> Flow[httpx.Response]:
    """Send a request, again where that may help, and return the answer of a success.

    Args:
        clock: seconds, of any beginning.
        idempotent: whether it may be carried out twice.
        deadline_s: for all tries together; the server is told what is left of it.

    Raises:
        DetserveError: of the last try.
    """
    started = clock()
    latest = min(retry.total_s, deadline_s if deadline_s is not None else retry.total_s)
    tried = 0
    while True:
        tried += 1
        left = None if deadline_s is None else deadline_s - (clock() - started)
        cause: httpx.RequestError | None = None
        try:
            response: httpx.Response = yield _within(request, left)
        except httpx.RequestError as broken:
            cause = broken
            error = _from_transport(broken, request, deadline_s)
            again = may_reconnect(broken, idempotent=idempotent)
        else:
            if response.is_success:
                return response
            error = error_from_answer(
                response.status_code,
                response.content,
                retry_after=response.headers.get("Retry-After"),
                request_id=request.headers.get("X-Request-ID", ""),
                url=request.url,
            )
            again = may_repeat(error, idempotent=idempotent)
        if not again or tried >= retry.attempts:
            raise error from cause
        pause = retry.pause_s(tried, error)
        # A try at the very end of a deadline could but miss it.
        if clock() - started + pause >= latest:
            raise error from cause
        yield Pause(pause)


def _within(request: Send, left: float | None) -> Send:
    """The request, to be answered in ``left`` seconds."""
    if left is None:
        return request
    left = max(left, 0.001)
    headers = {**request.headers, "X-Request-Timeout-Ms": str(max(1, int(left * 1000)))}
    return replace(request, headers=headers, timeout_s=min(request.timeout_s, left))


def _from_transport(
    error: httpx.RequestError, request: Send, deadline_s: float | None
) -> DetserveError:
    request_id = request.headers.get("X-Request-ID")
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        if deadline_s is not None and deadline_s <= request.timeout_s:
            limit = f"the {deadline_s:g} s of deadline_s"
        else:
            limit = f"{request.timeout_s:g} s; give a larger timeout_s if it may take longer"
        return DeadlineMissed(
            f"{request.url} did not answer within {limit}.",
            code="client_timeout",
            request_id=request_id,
        )
    reason = str(error) or type(error).__name__
    return NoConnection(
        f"{request.url} cannot be reached: {reason.rstrip('.')}.",
        code="no_connection",
        request_id=request_id,
    )
