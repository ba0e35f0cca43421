"""What a client can ask of a server, as flows: all but the sending, which sync and async do apart."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict
from urllib.parse import quote, urlsplit

import httpx

from service.client.answers import Prediction, read_predictions
from service.client.errors import (
    DeadlineMissed,
    DetserveError,
    InvalidAnswer,
    NoConnection,
    ReloadFailed,
)
from service.client.flows import Flow, Pause, Send, Work, exchange
from service.client.images import ImageSource, read_image
from service.client.options import json_body, split_options
from service.client.retry import Retry
from service.client.served import Model, Reload, read_model, read_models, read_reload

_ACCEPT = "application/json, */*;q=0.1"
_FIRST_POLL_S, _LAST_POLL_S = 0.05, 1.0
"""Pauses between two looks at what goes on: each half as long again as the one before."""

_NO_RETRY = Retry(attempts=1)


class ReloadOptions(TypedDict, total=False):
    """Keyword arguments of ``reload``: what ``docs/api.md`` says of ``POST /reload``."""

    model: str
    version: str | int
    weights: str
    config: str
    labels: str
    gate: Mapping[str, Any] | Literal[False]
    dry_run: bool
    strategy: Literal["side_by_side", "in_place"]
    allow_class_changes: bool
    current: str | int


class RollbackOptions(TypedDict, total=False):
    """Keyword arguments of ``rollback``."""

    strategy: Literal["side_by_side", "in_place"]
    current: str | int


class Api:
    """The server at ``url``; the arguments are those of :class:`service.client.Client`."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None,
        admin_token: str | None,
        timeout_s: float,
        retry: Retry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises :class:`ValueError` for an address, a token or a time that cannot be one."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(
                f"{url!r} is not the address of a server; it looks like http://127.0.0.1:8000."
            )
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("Give the server's address without user, query and fragment.")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s is {timeout_s}; give more than 0 seconds.")
        self.url = url.rstrip("/")
        self._token = _checked_token(token)
        self._admin_token = _checked_token(admin_token) or self._token
        self._timeout_s = timeout_s
        self._retry = retry
        self._clock = clock

    def predict(
        self,
        sources: Sequence[ImageSource],
        options: Mapping[str, Any],
        *,
        request_id: str | None,
        deadline_s: float | None,
    ) -> Flow[list[Prediction]]:
        """``POST /predict`` for these images, in their order."""
        if not sources:
            raise ValueError("There is no image to predict on.")
        if deadline_s is not None and not deadline_s > 0:
            raise ValueError(f"deadline_s is {deadline_s}; give more than 0 seconds.")
        query, nested = split_options(options)

        def prepare() -> tuple[list[tuple[str, bytes, str]], bytes | None]:
            files = [read_image(source, place) for place, source in enumerate(sources)]
            return ([], json_body(files, nested)) if nested else (files, None)

        files, content = yield Work(prepare)
        response = yield from self._exchange(
            "POST",
            "/predict",
            params=query,
            files=files,
            content=content,
            request_id=request_id,
            deadline_s=deadline_s,
        )
        predictions: list[Prediction] = yield Work(lambda: read_predictions(response))
        if len(predictions) != len(sources):
            raise InvalidAnswer(
                f"{len(sources)} images were sent and {len(predictions)} answered.",
                code="invalid_answer",
            )
        return predictions

    def models(self) -> Flow[list[Model]]:
        """``GET /models``."""
        response = yield from self._exchange("GET", "/models")
        return read_models(response)

    def model(self, name: str) -> Flow[Model]:
        """``GET /models/{name}``."""
        response = yield from self._exchange("GET", f"/models/{quote(name, safe='')}")
        return read_model(response)

    def metrics(self) -> Flow[str]:
        """``GET /metrics``."""
        response = yield from self._exchange("GET", "/metrics")
        return response.text

    def ready(self) -> Flow[bool]:
        """``GET /readyz``, once."""
        try:
            yield from self._exchange("GET", "/readyz", retry=_NO_RETRY)
        except DetserveError as error:
            if error.status == 503 or isinstance(error, NoConnection | DeadlineMissed):
                return False
            raise
        return True

    def wait_ready(self, timeout_s: float) -> Flow[None]:
        """``GET /readyz`` until it says yes."""
        latest, pause = self._clock() + timeout_s, _FIRST_POLL_S
        while not (yield from self.ready()):
            if self._clock() + pause > latest:
                raise DeadlineMissed(
                    f"{self.url} was not ready within {timeout_s:g} s.", code="client_timeout"
                )
            yield Pause(pause)
            pause = min(1.5 * pause, _LAST_POLL_S)

    def reload(self, options: Mapping[str, Any], *, wait: bool, timeout_s: float) -> Flow[Reload]:
        """``POST /reload``, and ``GET /reload/{id}`` until it is done."""
        return (yield from self._change("/reload", options, wait=wait, timeout_s=timeout_s))

    def rollback(
        self, model: str, options: Mapping[str, Any], *, wait: bool, timeout_s: float
    ) -> Flow[Reload]:
        """``POST /models/{model}/rollback``, likewise."""
        path = f"/models/{quote(model, safe='')}/rollback"
        return (yield from self._change(path, options, wait=wait, timeout_s=timeout_s))

    def watch(self, job_id: str) -> Flow[Reload]:
        """``GET /reload/{id}``."""
        path = f"/reload/{quote(job_id, safe='')}"
        response = yield from self._exchange("GET", path, admin=True)
        return read_reload(response)

    def _change(
        self, path: str, options: Mapping[str, Any], *, wait: bool, timeout_s: float
    ) -> Flow[Reload]:
        """Begin it without waiting, and ask how it goes: no connection must last as long as a load."""
        body = {key: value for key, value in options.items() if value is not None} | {"wait": False}
        latest, pause = self._clock() + timeout_s, _FIRST_POLL_S
        response = yield from self._exchange(
            "POST", path, content=json.dumps(body).encode(), idempotent=False, admin=True
        )
        job = read_reload(response)
        while wait and job.state == "running":
            if self._clock() + pause > latest:
                raise DeadlineMissed(
                    f"The {job.raw.get('action', 'reload')} of {job.model!r} goes on after "
                    f"{timeout_s:g} s; ask how it goes with reload_status({job.id!r}).",
                    code="client_timeout",
                    details={"reload": job.id},
                )
            yield Pause(pause)
            pause = min(1.5 * pause, _LAST_POLL_S)
            job = yield from self.watch(job.id)
        if job.state == "failed":
            error = job.raw.get("error") or {}
            raise ReloadFailed(
                error.get("message", f"The reload of {job.model!r} failed."),
                code=error.get("code", "reload_failed"),
                details={**(error.get("details") or {}), "reload": job.id},
            )
        return job

    def _exchange(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        files: Sequence[tuple[str, bytes, str]] = (),
        content: bytes | None = None,
        request_id: str | None = None,
        deadline_s: float | None = None,
        idempotent: bool = True,
        admin: bool = False,
        retry: Retry | None = None,
    ) -> Flow[httpx.Response]:
        # One id for all tries, and known here even if no answer comes.
        headers = {"Accept": _ACCEPT, "X-Request-ID": request_id or uuid.uuid4().hex}
        token = self._admin_token if admin else self._token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if content is not None:
            headers["Content-Type"] = "application/json"
        return (
            yield from exchange(
                Send(
                    method,
                    self.url + path,
                    headers=headers,
                    params=params,
                    files=files,
                    content=content,
                    timeout_s=self._timeout_s,
                ),
                retry=retry or self._retry,
                clock=self._clock,
                idempotent=idempotent,
                deadline_s=deadline_s,
            )
        )


def _checked_token(token: str | None) -> str:
    token = (token or "").strip()
    if not (token.isascii() and token.isprintable()):
        raise ValueError("The token is not one line of printable ASCII.")
    return token
