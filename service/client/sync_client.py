"""The client that waits for its answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import httpx

from service.client.answers import Prediction
from service.client.api import Api, ReloadOptions, RollbackOptions
from service.client.flows import Flow, Pause, Send
from service.client.images import ImageSource
from service.client.options import PredictOptions
from service.client.retry import Retry
from service.client.served import Model, Reload

T = TypeVar("T")
ImageT = TypeVar("ImageT", bound=ImageSource)


class Client:
    """A running detserve. Close it, or use it as a context manager; threads may share it.

    ::

        with Client("http://127.0.0.1:8000") as client:
            prediction = client.predict("photo.jpg", score_threshold=0.5)
            prediction.draw("photo.jpg").save("found.png")

    Args:
        url: ``http://host:port`` or with ``https``, and a path in front of all of the server's.
        token: the token for predictions, if the server asks for one.
        admin_token: the token for what changes a model; default: ``token``.
        timeout_s: the longest silence of one try; to connect, ten seconds at most.
        retry: how often a request is sent again; ``Retry(attempts=1)`` is never.
        http: an own httpx client, with its own TLS, proxies and pool; it stays open.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        admin_token: str | None = None,
        timeout_s: float = 60.0,
        retry: Retry | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        """Raises :class:`ValueError` for an address, a token or a time that cannot be one."""
        self._api = Api(
            url,
            token=token,
            admin_token=admin_token,
            timeout_s=timeout_s,
            retry=retry or Retry(),
        )
        self._own = http is None
        self._http = http or httpx.Client()
        self._sleep: Callable[[float], None] = time.sleep

    @overload
    def predict(
        self,
        images: ImageSource,
        *,
        request_id: str | None = None,
        deadline_s: float | None = None,
        **options: Unpack[PredictOptions],
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        images: list[ImageSource] | list[ImageT] | tuple[ImageSource, ...],
        *,
        request_id: str | None = None,
        deadline_s: float | None = None,
        **options: Unpack[PredictOptions],
    ) -> list[Prediction]: ...

    def predict(
        self,
        images: ImageSource | list[Any] | tuple[Any, ...],
        *,
        request_id: str | None = None,
        deadline_s: float | None = None,
        **options: Unpack[PredictOptions],
    ) -> Prediction | list[Prediction]:
        """Predict on one image, or on several in one request.

        Args:
            images: each a path, the bytes of an image file, a Pillow image, or an (H, W, 3) uint8 RGB
                array.
            request_id: under which the server logs it; default: a new one.
            deadline_s: for all tries together; the server stops at what is left of it.
            options: those of :class:`PredictOptions`.

        Returns:
            One answer for one image, a list for a list. An image that cannot be used has ``error`` while
            others of its list are answered.

        Raises:
            DetserveError: there is no answer, or none of the images could be used.
            OSError, TypeError, ValueError: an image is none, or cannot be read.
        """
        sources = images if isinstance(images, list | tuple) else [images]
        answers = self._run(
            self._api.predict(sources, options, request_id=request_id, deadline_s=deadline_s)
        )
        return answers if sources is images else answers[0]

    def models(self) -> list[Model]:
        """What is served; the first one answers requests that name none."""
        return self._run(self._api.models())

    def model(self, name: str) -> Model:
        """One model. Raises :class:`NotFound`."""
        return self._run(self._api.model(name))

    def ready(self) -> bool:
        """Whether the server is there and takes requests; asked once."""
        return self._run(self._api.ready())

    def wait_ready(self, timeout_s: float = 120.0) -> None:
        """Return as soon as the server takes requests. Raises :class:`DeadlineMissed`."""
        self._run(self._api.wait_ready(timeout_s))

    def metrics(self) -> str:
        """Prometheus metrics, as their text."""
        return self._run(self._api.metrics())

    def reload(
        self, *, wait: bool = True, wait_s: float = 900.0, **options: Unpack[ReloadOptions]
    ) -> Reload:
        """Make a version current; without options, the recorded one or the same files again.

        Args:
            wait: until it is done; else :meth:`reload_status` tells.
            wait_s: so long at most, in seconds; the server goes on behind it.

        Raises:
            ReloadFailed: it was refused, and the old version serves on.
            DeadlineMissed: it is not done yet.
            DetserveError: it was not begun.
        """
        return self._run(self._api.reload(options, wait=wait, timeout_s=wait_s))

    def rollback(
        self,
        model: str,
        *,
        wait: bool = True,
        wait_s: float = 900.0,
        **options: Unpack[RollbackOptions],
    ) -> Reload:
        """Make the previous version current again. Arguments and errors as :meth:`reload`."""
        return self._run(self._api.rollback(model, options, wait=wait, timeout_s=wait_s))

    def reload_status(self, job_id: str) -> Reload:
        """How a reload or rollback goes, or went."""
        return self._run(self._api.watch(job_id))

    def close(self) -> None:
        """Close the connections."""
        if self._own:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Send):
                    try:
                        response = self._http.send(step.request(self._http))
                    except httpx.RequestError as error:
                        step = flow.throw(error)
                    else:
                        step = flow.send(response)
                elif isinstance(step, Pause):
                    self._sleep(step.seconds)
                    step = flow.send(None)
                else:
                    step = flow.send(step.run())
        except StopIteration as done:
            result: T = done.value
            return result
