"""The client for asyncio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import anyio
import anyio.to_thread
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


class AsyncClient:
    """A running detserve, awaited: arguments, methods and errors are those of ``Client``.

    ::

        async with AsyncClient("http://127.0.0.1:8000") as client:
            prediction = await client.predict("photo.jpg", score_threshold=0.5)

    Files are read and pictures encoded on threads. A call that is cancelled leaves the connection, and the
    server drops the work.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        admin_token: str | None = None,
        timeout_s: float = 60.0,
        retry: Retry | None = None,
        http: httpx.AsyncClient | None = None,
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
        self._http = http or httpx.AsyncClient()
        self._sleep: Callable[[float], Awaitable[None]] = anyio.sleep

    @overload
    async def predict(
        self,
        images: ImageSource,
        *,
        request_id: str | None = None,
        deadline_s: float | None = None,
        **options: Unpack[PredictOptions],
    ) -> Prediction: ...

    @overload
    async def predict(
        self,
        images: list[ImageSource] | list[ImageT] | tuple[ImageSource, ...],
        *,
        request_id: str | None = None,
        deadline_s: float | None = None,
        **options: Unpack[PredictOptions],
    ) -> list[Prediction]: ...

    async def predict(
        self,
        images: ImageSource | list[Any] | tuple[Any, ...],
        *,
        request_id: str | None = None,
        deadline_s: float | None = None,
        **options: Unpack[PredictOptions],
    ) -> Prediction | list[Prediction]:
        """As ``Client.predict``."""
        sources = images if isinstance(images, list | tuple) else [images]
        answers = await self._run(
            self._api.predict(sources, options, request_id=request_id, deadline_s=deadline_s)
        )
        return answers if sources is images else answers[0]

    async def models(self) -> list[Model]:
        """As ``Client.models``."""
        return await self._run(self._api.models())

    async def model(self, name: str) -> Model:
        """As ``Client.model``."""
        return await self._run(self._api.model(name))

    async def ready(self) -> bool:
        """As ``Client.ready``."""
        return await self._run(self._api.ready())

    async def wait_ready(self, timeout_s: float = 120.0) -> None:
        """As ``Client.wait_ready``."""
        await self._run(self._api.wait_ready(timeout_s))

    async def metrics(self) -> str:
        """As ``Client.metrics``."""
        return await self._run(self._api.metrics())

    async def reload(
        self, *, wait: bool = True, wait_s: float = 900.0, **options: Unpack[ReloadOptions]
    ) -> Reload:
        """As ``Client.reload``."""
        return await self._run(self._api.reload(options, wait=wait, timeout_s=wait_s))

    async def rollback(
        self,
        model: str,
        *,
        wait: bool = True,
        wait_s: float = 900.0,
        **options: Unpack[RollbackOptions],
    ) -> Reload:
        """As ``Client.rollback``."""
        return await self._run(self._api.rollback(model, options, wait=wait, timeout_s=wait_s))

    async def reload_status(self, job_id: str) -> Reload:
        """As ``Client.reload_status``."""
        return await self._run(self._api.watch(job_id))

    async def close(self) -> None:
        """Close the connections."""
        if self._own:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Send):
                    try:
                        response = await self._http.send(step.request(self._http))
                    except httpx.RequestError as error:
                        step = flow.throw(error)
                    else:
                        step = flow.send(response)
                elif isinstance(step, Pause):
                    await self._sleep(step.seconds)
                    step = flow.send(None)
                else:
                    step = flow.send(await anyio.to_thread.run_sync(step.run))
        except StopIteration as done:
            result: T = done.value
            return result
