"""RequestContextMiddleware and the error handlers: ids, records, and errors in one shape."""

import asyncio
import logging
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from service.error_handlers import install_error_handlers
from service.errors import QueueFull, TooLarge
from service.middleware import RequestContextMiddleware, RequestRecord

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Observed:
    """What the middleware reported."""

    def __init__(self) -> None:
        self.routes: list[str] = []
        self.records: list[RequestRecord] = []

    @property
    def record(self) -> RequestRecord:
        assert len(self.records) == 1
        return self.records[0]


def build() -> tuple[FastAPI, Observed]:
    app, observed = FastAPI(), Observed()
    install_error_handlers(app)
    app.add_middleware(
        RequestContextMiddleware, observe=observed.records.append, started=observed.routes.append
    )

    @app.get("/hello/{name}")
    async def hello(request: Request, name: str) -> Response:
        request.state.log["model"] = name
        return PlainTextResponse(request.state.request_id)

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body())

    @app.post("/refuse")
    async def refuse() -> None:
        raise TooLarge("body_too_large", "Too large.", limit=1, value=2)

    @app.get("/busy")
    async def busy() -> None:
        raise QueueFull("queue_full", "Full.", retry_after=3)

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("the secret path is /srv/x")

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout")

    @app.get("/stream-bug")
    async def stream_bug() -> Response:
        async def parts() -> Any:
            yield b"some"
            raise RuntimeError("halfway")

        return StreamingResponse(parts())

    @app.get("/option")
    async def option(score_threshold: float = Query(ge=0, le=1)) -> None:
        return None

    @app.post("/typed")
    async def typed(body: dict[str, int]) -> None:
        return None

    models = APIRouter(prefix="/models/{name}")

    @models.get("/versions/{version}")
    async def version(name: str, version: int) -> None:
        return None

    app.include_router(models, prefix="/v2")
    inner = Starlette()
    inner.add_route("/tasks/{id}", lambda request: PlainTextResponse("task"))
    app.mount("/label-studio", inner)
    return app, observed


async def ask(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, **options)


# Request ids


async def test_request_gets_an_id_that_handler_answer_and_record_share() -> None:
    app, observed = build()
    response = await ask(app, "GET", "/hello/x")
    assert len(response.text) == 32
    assert response.headers["x-request-id"] == response.text == observed.record.request_id


async def test_valid_incoming_id_is_kept() -> None:
    response = await ask(build()[0], "GET", "/hello/x", headers={"X-Request-ID": "job-1.a_B"})
    assert response.headers["x-request-id"] == "job-1.a_B"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "<script>", "a;b"])
async def test_invalid_incoming_id_is_replaced(given: str) -> None:
    response = await ask(build()[0], "GET", "/hello/x", headers={"X-Request-ID": given})
    assert response.headers["x-request-id"] != given
    assert len(response.headers["x-request-id"]) == 32


async def test_errors_carry_the_id_in_header_and_body() -> None:
    response = await ask(build()[0], "GET", "/nothing", headers={"X-Request-ID": "abc"})
    assert response.headers["x-request-id"] == "abc"
    assert response.json()["error"]["request_id"] == "abc"


# Records


async def test_record_tells_what_happened() -> None:
    app, observed = build()
    await ask(app, "POST", "/echo", content=b"x" * 1000)
    record = observed.record
    assert (record.method, record.path, record.route, record.status) == (
        "POST",
        "/echo",
        "/echo",
        200,
    )
    assert (record.request_bytes, record.response_bytes, record.client) == (1000, 1000, "127.0.0.1")
    assert record.duration_s > 0


async def test_handlers_add_to_the_record() -> None:
    app, observed = build()
    await ask(app, "GET", "/hello/coco")
    assert observed.record.extra == {"model": "coco"}


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/hello/secret", "/hello/{name}"),
        ("GET", "/v2/models/secret/versions/7", "/v2/models/{name}/versions/{version}"),
        ("POST", "/hello/secret", "/hello/{name}"),
        ("GET", "/label-studio/tasks/9", "/label-studio/tasks/{id}"),
        ("GET", "/openapi.json", "/openapi.json"),
        ("GET", "/secret", "unmatched"),
        ("GET", "/bug", "/bug"),
    ],
)
async def test_route_is_a_template_and_the_same_at_start_and_end(
    method: str, path: str, route: str
) -> None:
    app, observed = build()
    await ask(app, method, path)
    assert observed.record.route == route
    assert observed.routes == [route]


async def test_failing_observer_breaks_no_request(caplog: pytest.LogCaptureFixture) -> None:
    def observe(record: RequestRecord) -> None:
        raise RuntimeError("observer")

    app = RequestContextMiddleware(PlainTextResponse("fine"), observe=observe)
    assert (await ask(app, "GET", "/")).status_code == 200
    assert "An observer of requests failed" in caplog.text


async def call(
    app: Any, messages: list[Message], *, method: str = "POST", path: str = "/echo"
) -> list[Message]:
    """Run ``app`` on a request that receives ``messages``; what it sent."""
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    await app(
        {**scope, "query_string": b"", "root_path": "", "client": None, "server": ("t", 80)},
        receive,
        send,
    )
    return sent


async def test_client_that_leaves_is_recorded_as_499(caplog: pytest.LogCaptureFixture) -> None:
    app, observed = build()
    await call(
        app,
        [
            {"type": "http.request", "body": b"half", "more_body": True},
            {"type": "http.disconnect"},
        ],
    )
    assert observed.record.status == 499
    assert observed.record.request_bytes == 4
    assert "Traceback" not in caplog.text


async def test_app_that_ends_silently_after_a_disconnect_is_recorded_as_499() -> None:
    async def gives_up(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    observed = Observed()
    app = RequestContextMiddleware(gives_up, observe=observed.records.append)
    await call(app, [{"type": "http.disconnect"}])
    assert observed.record.status == 499


async def test_cancelled_request_is_recorded_and_stays_cancelled() -> None:
    async def hang(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    observed = Observed()
    app = RequestContextMiddleware(
        hang, observe=observed.records.append, started=observed.routes.append
    )
    task = asyncio.create_task(call(app, []))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert observed.record.status == 503
    assert observed.routes == ["unmatched"]


async def test_other_scopes_pass_untouched() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    observed = Observed()
    await RequestContextMiddleware(app, observe=observed.records.append)(
        {"type": "lifespan"},
        None,  # type: ignore[arg-type]  # not reached
        None,  # type: ignore[arg-type]  # not reached
    )
    assert seen == ["lifespan"]
    assert observed.records == []


# Errors


async def test_api_error_is_answered_in_our_shape() -> None:
    response = await ask(build()[0], "POST", "/refuse", headers={"X-Request-ID": "abc"})
    assert response.status_code == 413
    assert response.json() == {
        "error": {
            "code": "body_too_large",
            "message": "Too large.",
            "request_id": "abc",
            "details": {"limit": 1, "value": 2},
        }
    }


async def test_headers_of_an_error_are_sent() -> None:
    response = await ask(build()[0], "GET", "/busy")
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")


async def test_api_error_outside_the_routes_is_answered_too() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        raise QueueFull("queue_full", "Full.", retry_after=3)

    app = RequestContextMiddleware(refuse, observe=Observed().records.append)
    response = await ask(app, "GET", "/")
    assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")


async def test_unhandled_error_is_500_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    app, observed = build()
    with caplog.at_level(logging.ERROR):
        response = await ask(app, "GET", "/bug", headers={"X-Request-ID": "abc"})
    assert response.status_code == observed.record.status == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret" not in response.text
    assert caplog.text.count("Traceback") == 1
    assert "request id abc" in caplog.text


async def test_error_halfway_through_an_answer_is_logged_and_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, observed = build()
    end: Message = {"type": "http.disconnect"}
    sent = await call(app, [end], method="GET", path="/stream-bug")
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert observed.record.status == 200
    assert caplog.text.count("RuntimeError: halfway") == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "hint"),
    [
        ("GET", "/nothing", 404, "not_found", "/docs"),
        ("GET", "/echo", 405, "method_not_allowed", "POST"),
        ("GET", "/teapot", 418, "i_m_a_teapot", "short and stout"),
    ],
)
async def test_framework_errors_are_answered_in_our_shape(
    method: str, path: str, status: int, code: str, hint: str
) -> None:
    response = await ask(build()[0], method, path)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert hint in response.json()["error"]["message"]


async def test_405_names_the_methods_in_a_header() -> None:
    assert (await ask(build()[0], "GET", "/echo")).headers["allow"] == "POST"


async def test_bad_option_is_422_and_names_the_field() -> None:
    response = await ask(build()[0], "GET", "/option?score_threshold=2")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (422, "invalid_option")
    assert error["message"].startswith("score_threshold: ")
    assert "(got '2')" in error["message"]
    assert error["details"]["errors"][0]["field"] == "score_threshold"
    assert error["details"]["errors"][0]["in"] == "query"


async def test_huge_bad_value_is_shown_short() -> None:
    response = await ask(build()[0], "GET", "/option?score_threshold=" + "x" * 10_000)
    assert len(response.content) < 1000


async def test_missing_option_is_422() -> None:
    error = (await ask(build()[0], "GET", "/option")).json()["error"]
    assert error["message"] == "score_threshold: Field required."


async def test_malformed_json_for_a_typed_route_is_400() -> None:
    headers = {"Content-Type": "application/json"}
    response = await ask(build()[0], "POST", "/typed", content=b"{", headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "malformed_json")


# Connection


async def test_error_before_the_body_was_read_closes_the_connection() -> None:
    response = await ask(build()[0], "POST", "/refuse", content=b"x" * 1000)
    assert response.headers["connection"] == "close"


async def test_error_without_a_body_keeps_the_connection() -> None:
    assert "connection" not in (await ask(build()[0], "GET", "/nothing")).headers
    assert "connection" not in (await ask(build()[0], "POST", "/refuse")).headers


async def test_answer_after_the_body_was_read_keeps_the_connection() -> None:
    headers = {"Content-Type": "application/json"}
    response = await ask(build()[0], "POST", "/typed", content=b'{"a": "b"}', headers=headers)
    assert response.status_code == 422
    assert "connection" not in response.headers
