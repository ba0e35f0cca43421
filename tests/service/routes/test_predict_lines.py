"""POST /predict as NDJSON: lines as images finish, and every way in which that can end."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fake_detector import PATIENCE_S, FakeDetector, mark_of, picture
from fake_server import Serve, Served
from starlette.requests import Request

from service.errors import ClientDisconnected, DeadlineMissed
from service.inference.detector import Prediction, PreparedImage
from service.inference.pipeline import ImageAnswer
from service.routes.predict_lines import LinesResponse, Told
from service.schemas.answers import ErrorAnswer
from service.schemas.formats import PredictLine

pytestmark = pytest.mark.anyio

BROKEN = b"\x89PNG\r\n\x1a\n but no picture"


class Exchange:
    """A request with images, and what is sent while it is answered."""

    def __init__(self, body: bytes, content_type: str, query: str = "format=ndjson") -> None:
        self.leaves = asyncio.Event()
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self._body = [{"type": "http.request", "body": body, "more_body": False}]
        self.scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
            "scheme": "http", "path": "/predict", "raw_path": b"/predict",
            "query_string": query.encode(), "root_path": "", "client": ("127.0.0.1", 1),
            "headers": [(b"content-type", content_type.encode())], "server": ("localhost", 80),
        }  # fmt: skip

    async def receive(self) -> Any:
        if self._body:
            return self._body.pop()
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.put_nowait(message)

    async def next(self) -> Any:
        """The next message of the answer; it must come."""
        return await asyncio.wait_for(self.messages.get(), PATIENCE_S)

    async def line(self) -> PredictLine:
        """The next line, held against its schema."""
        message = await self.next()
        assert message["type"] == "http.response.body"
        assert message["more_body"]
        assert message["body"].endswith(b"\n")
        return PredictLine.model_validate(json.loads(message["body"]))


def multipart(*images: bytes) -> tuple[bytes, str]:
    parts = [
        b'--cut\r\nContent-Disposition: form-data; name="images"; filename="%d.png"\r\n\r\n%b\r\n'
        % (number, image)
        for number, image in enumerate(images)
    ]
    return b"".join(parts) + b"--cut--\r\n", "multipart/form-data; boundary=cut"


@asynccontextmanager
async def running(served: Served, exchange: Exchange) -> AsyncIterator[asyncio.Future[None]]:
    """The app at work on a request."""
    task = asyncio.ensure_future(served.app(exchange.scope, exchange.receive, exchange.send))
    yield task
    await asyncio.wait_for(task, PATIENCE_S)


class Held:
    """A detector that keeps the images of one mark until it is told to go on."""

    def __init__(self, mark: int) -> None:
        self.go = threading.Event()
        self.detector = FakeDetector(task="object_detection")
        found = self.detector._find

        def predicts(image: PreparedImage) -> Prediction:
            if mark_of(image) == mark:
                assert self.go.wait(PATIENCE_S)
            return Prediction(instances=found(image))

        self.predicts = predicts


def serving(serve: Serve, held: Held, **settings: Any) -> Served:
    """A server on the detector, which answers its self-check as ever."""
    served = serve(held.detector, **settings)
    held.detector.predicts = held.predicts
    return served


async def test_a_line_comes_before_the_next_image_is_done(serve: Serve) -> None:
    held = Held(2)
    served = serving(serve, held, max_batch_size=1)
    exchange = Exchange(*multipart(picture(1), picture(2)))
    async with running(served, exchange):
        start = await exchange.next()
        assert start["status"] == 200
        headers = dict(start["headers"])
        assert headers[b"content-type"] == b"application/x-ndjson"
        assert headers[b"vary"] == b"Accept"
        assert headers[b"x-request-id"]
        assert b"content-length" not in headers
        first = await exchange.line()
        assert (first.index, first.image.name) == (0, "0.png")
        assert first.model is not None
        assert first.model.version == "1"
        assert exchange.messages.empty()
        held.go.set()
        assert (await exchange.line()).index == 1
        assert (await exchange.next())["more_body"] is False
    labels = {"model": "shapes", "version": "1", "outcome": "ok"}
    assert served.metric("predictions_total", **labels) == 2
    assert served.metric("http_requests_total", method="POST", route="/predict", code="200") == 1
    assert served.runtime.scheduler.depth == 0
    assert served.runtime.repository.get("shapes").current.leases == 0


async def test_the_images_that_cannot_be_used_have_their_error_in_their_line(serve: Serve) -> None:
    response = await serve().client.post(
        "/predict",
        params={"format": "ndjson"},
        files=[("images", ("a.png", BROKEN)), ("images", ("b.png", picture(1)))],
    )
    assert response.status_code == 200
    lines = [PredictLine.model_validate(json.loads(line)) for line in response.text.splitlines()]
    by_index = {line.index: line for line in lines}
    assert by_index[0].error is not None
    assert by_index[0].error.code == "invalid_image"
    assert by_index[0].instances is None
    assert by_index[1].instances is not None
    assert by_index[1].timing_ms is not None


async def test_a_client_that_leaves_between_two_lines_takes_the_rest_along(serve: Serve) -> None:
    held = Held(2)
    served = serving(serve, held, max_batch_size=1)
    exchange = Exchange(*multipart(picture(1), picture(2), picture(3)))
    async with running(served, exchange):
        await exchange.next()
        await exchange.line()
        exchange.leaves.set()
    assert served.runtime.scheduler.depth == 0
    assert exchange.messages.empty()
    held.go.set()
    labels = {"model": "shapes", "version": "1"}
    assert served.metric("predictions_total", **labels, outcome="ok") == 1
    assert served.metric("predictions_total", **labels, outcome="disconnected") == 2
    assert served.metric("http_requests_total", method="POST", route="/predict", code="200") == 1
    answer = await served.client.post("/predict", files={"images": picture(4)})
    assert answer.status_code == 200
    assert [3] not in held.detector.batches
    assert served.runtime.repository.get("shapes").current.leases == 0


async def test_a_client_that_leaves_before_the_first_line_has_no_answer(serve: Serve) -> None:
    held = Held(1)
    served = serving(serve, held)
    exchange = Exchange(*multipart(picture(1)))
    async with running(served, exchange):
        await asyncio.to_thread(held.detector.entered)
        exchange.leaves.set()
    held.go.set()
    assert (await exchange.next())["status"] == 499
    assert served.runtime.scheduler.depth == 0


async def test_a_full_queue_refuses_the_whole_request(serve: Serve) -> None:
    held = Held(1)
    served = serving(serve, held, max_queue=2)
    async with running(served, Exchange(*multipart(picture(1)))):
        await asyncio.to_thread(held.detector.entered)
        exchange = Exchange(*multipart(picture(2), picture(3)))
        async with running(served, exchange):
            pass
        held.go.set()
    assert (await exchange.next())["status"] == 429
    error = ErrorAnswer.model_validate(json.loads((await exchange.next())["body"])).error
    assert error.code == "queue_full"
    assert served.runtime.scheduler.depth == 0


async def test_a_deadline_before_the_first_line_is_one_of_the_request(serve: Serve) -> None:
    held = Held(1)
    served = serving(serve, held, request_timeout_s=0.05)
    exchange = Exchange(*multipart(picture(1)))
    async with running(served, exchange):
        assert (await exchange.next())["status"] == 504
    held.go.set()


def lines_of(work: Any, exchange: Exchange) -> tuple[LinesResponse, list[Any]]:
    """The response alone, on work of the test's own, and what it tells of its end."""
    ends: list[Any] = []
    response = LinesResponse(
        Request(exchange.scope, exchange.receive),
        work,
        names=["a", "b", "c"],
        line=lambda index, answer: b"%d %s\n" % (
            index, answer.error.code.encode() if answer.error else b"ok"
        ),
        ended=ends.append,
    )  # fmt: skip
    return response, ends


def spent(exchange: Exchange) -> Exchange:
    """Its body has been read, as a route has done before."""
    exchange._body.clear()
    return exchange


def bodies(exchange: Exchange) -> list[bytes]:
    messages = [exchange.messages.get_nowait() for _ in range(exchange.messages.qsize())]
    return [m["body"] for m in messages if m["type"] == "http.response.body"]


async def test_after_a_deadline_the_images_without_an_answer_have_its_error() -> None:
    async def work(told: Told) -> None:
        told(1, ImageAnswer("b"))
        raise DeadlineMissed("deadline_missed", "The answer was not ready within 1 s.")

    exchange = spent(Exchange(b"", ""))
    response, ends = lines_of(work, exchange)
    await response(exchange.scope, exchange.receive, exchange.send)
    expected = [b"1 ok\n", b"0 deadline_missed\n", b"2 deadline_missed\n", b""]
    assert bodies(exchange) == expected
    assert [answer.name for answer in ends[0]] == ["b", "a", "c"]


async def test_a_defect_between_two_lines_leaves_the_answer_without_its_end() -> None:
    async def work(told: Told) -> None:
        told(0, ImageAnswer("a"))
        raise ZeroDivisionError

    exchange = spent(Exchange(b"", ""))
    response, ends = lines_of(work, exchange)
    with pytest.raises(ZeroDivisionError):
        await response(exchange.scope, exchange.receive, exchange.send)
    assert bodies(exchange) == [b"0 ok\n"]
    assert ends == []


async def test_work_is_over_when_the_response_is_even_if_the_client_has_left() -> None:
    over = False

    async def work(told: Told) -> None:
        nonlocal over
        told(0, ImageAnswer("a"))
        try:
            await asyncio.Event().wait()
        finally:
            over = True

    exchange = spent(Exchange(b"", ""))
    response, ends = lines_of(work, exchange)
    sending = asyncio.ensure_future(response(exchange.scope, exchange.receive, exchange.send))
    await exchange.next()
    await exchange.next()
    exchange.leaves.set()
    with pytest.raises(ClientDisconnected):
        await asyncio.wait_for(sending, PATIENCE_S)
    assert over
    assert [answer.name for answer in ends[0]] == ["a"]
