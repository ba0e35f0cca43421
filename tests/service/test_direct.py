"""DirectRoutes: the short way answers as the long one does, and takes nothing else."""

from typing import Any

import httpx
import pytest
from fake_detector import FakeDetector, picture
from fake_server import Serve
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from service.direct import DirectRoutes
from service.errors import TooLarge
from service.middleware import RequestContextMiddleware, RequestRecord

pytestmark = pytest.mark.anyio


async def endpoint(request: Request) -> Response:
    return PlainTextResponse(f"direct {request.query_params.get('a', '')}")


async def refuse(request: Request) -> Response:
    raise TooLarge("body_too_large", "Too large.", limit=1, value=2)


def build() -> tuple[RequestContextMiddleware, list[RequestRecord]]:
    app, records = FastAPI(), list[RequestRecord]()

    @app.get("/hot/{rest:path}")
    @app.get("/hot")
    async def hot() -> Response:
        return PlainTextResponse("router")

    routes: Any = {("POST", "/hot"): endpoint, ("POST", "/refuse"): refuse}
    return RequestContextMiddleware(DirectRoutes(app, routes), observe=records.append), records


async def ask(method: str, path: str) -> tuple[httpx.Response, RequestRecord]:
    app, records = build()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.request(method, path)
    return response, records[0]


async def test_the_route_is_called_and_recorded_by_its_path() -> None:
    response, record = await ask("POST", "/hot?a=1")
    assert response.text == "direct 1"
    assert (record.route, record.status) == ("/hot", 200)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/hot", 200), ("GET", "/hot/x", 200), ("PUT", "/hot", 405)],
)
async def test_everything_else_goes_to_the_router(method: str, path: str, status: int) -> None:
    response, _ = await ask(method, path)
    assert response.status_code == status
    assert "direct" not in response.text


async def test_an_error_is_answered_in_our_shape() -> None:
    response, record = await ask("POST", "/refuse")
    assert (response.status_code, record.status) == (413, 413)
    assert response.json()["error"]["code"] == "body_too_large"


async def test_predict_is_documented_and_answers_both_ways(serve: Serve) -> None:
    served = serve(FakeDetector())
    paths = (await served.client.get("/openapi.json")).json()["paths"]
    assert "post" in paths["/predict"]
    answer = await served.client.post("/predict", content=picture(3))
    assert answer.status_code == 200
    assert served.metric("http_requests_total", method="POST", route="/predict", code="200") == 1
    assert (await served.client.get("/predict")).status_code == 405
