"""The answer of ``POST /predict`` as NDJSON: a line for each image as soon as it is answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.encoding.formats.negotiation import MEDIA_TYPES
from service.errors import ApiError
from service.inference.pipeline import ImageAnswer
from service.routes.asking import Told
from service.routes.disconnect import unless_disconnected


class LinesResponse(Response):
    """Predicts while it is sent.

    Until the first image is answered an error is one of the whole request, with its status. Later ones
    come in the lines of the images that they have cost their answer.
    """

    media_type = MEDIA_TYPES["ndjson"]

    def __init__(
        self,
        request: Request,
        predict: Callable[[Told], Awaitable[object]],
        *,
        names: Sequence[str],
        line: Callable[[int, ImageAnswer], bytes],
        ended: Callable[[Sequence[ImageAnswer]], None],
    ) -> None:
        """Nothing runs yet.

        Args:
            request: its body has been read.
            predict: does the work; it calls the function it is given with each image's place and
                answer, on the event loop. It is cancelled when the client leaves.
            names: of the images.
            line: makes a line, with its end.
            ended: is told of all answers before the last byte is sent, or of those that there were when
                the client left.
        """
        super().__init__()
        del self.headers["content-length"]  # not known yet
        self.headers["vary"] = "Accept"
        self._request = request
        self._predict = predict
        self._names = names
        self._line = line
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Predict and send."""
        await unless_disconnected(self._request, self._run(send))

    async def _run(self, send: Send) -> None:
        # Whoever reads slowly holds up neither the images nor the version that answers them: what is
        # done waits here, as much as one answer in one piece would hold.
        done: asyncio.Queue[tuple[int, ImageAnswer] | None] = asyncio.Queue()

        async def work() -> None:
            try:
                await self._predict(lambda index, answer: done.put_nowait((index, answer)))
            finally:
                done.put_nowait(None)

        working = asyncio.create_task(work())
        answers: dict[int, ImageAnswer] = {}
        try:
            while (item := await done.get()) is not None:
                if not answers:
                    await self._start(send)
                answers[item[0]] = item[1]
                await _send_body(send, self._line(*item), more=True)
            try:
                await working
            except ApiError as error:
                if not answers:
                    raise
                for index, name in enumerate(self._names):
                    if index not in answers:
                        answers[index] = ImageAnswer(name, error=error)
                        await _send_body(send, self._line(index, answers[index]), more=True)
            self._ended(list(answers.values()))
            await _send_body(send, b"", more=False)
        except asyncio.CancelledError:
            if answers:
                self._ended(list(answers.values()))
            raise
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError, ApiError):
                await working

    async def _start(self, send: Send) -> None:
        message = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(message)


async def _send_body(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
