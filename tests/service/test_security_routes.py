"""Tokens and web pages over HTTP: which routes ask for what, before they read anything."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_server import Serve
from pydantic import ValidationError

from service.settings import Settings

pytestmark = pytest.mark.anyio
GUARDED = [("POST", "/predict"), ("GET", "/models"), ("GET", "/models/shapes")]
OPEN = ["/livez", "/readyz", "/metrics", "/docs", "/openapi.json"]
EVIL = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_the_inference_token_is_asked_for(serve: Serve, method: str, path: str) -> None:
    client = serve(inference_token="ask").client
    assert code_of(await client.request(method, path)) == (401, "token_required")
    wrong = {"Authorization": "Bearer nope"}
    assert code_of(await client.request(method, path, headers=wrong)) == (401, "token_wrong")


@pytest.mark.parametrize("token", ["ask", "s3cret"])
@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_both_tokens_are_taken(serve: Serve, method: str, path: str, token: str) -> None:
    client = serve(inference_token="ask", admin_token="s3cret").client
    response = await client.request(method, path, headers={"X-API-Key": token})
    assert response.status_code == (422 if path == "/predict" else 200)  # without an image


@pytest.mark.parametrize("path", OPEN)
async def test_probes_metrics_and_documentation_stay_open(serve: Serve, path: str) -> None:
    response = await serve(inference_token="ask", admin_token="s3cret").client.get(path)
    assert response.status_code == 200


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_a_token_in_the_query_does_not_count(serve: Serve, method: str, path: str) -> None:
    client = serve(inference_token="ask").client
    for name in ("token", "access_token", "api_key", "authorization"):
        response = await client.request(method, path, params={name: "ask"})
        assert code_of(response) == (401, "token_required")


async def test_without_the_token_no_byte_of_the_body_is_read(serve: Serve) -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"x")
        yield b"x"

    response = await serve(inference_token="ask").client.post("/predict", content=body())
    assert response.status_code == 401
    assert read == []


@pytest.mark.parametrize(
    "settings", [{"admin_token": "s3cret"}, {"admin_open": True}, {}], ids=["token", "open", "none"]
)
@pytest.mark.parametrize(
    "headers",
    [
        EVIL,
        {"Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Host": "evil.example", "Origin": "http://evil.example", "X-Admin-Token": "guess"},
    ],
)
async def test_a_web_page_never_triggers_a_reload(
    serve: Serve, settings: dict[str, Any], headers: dict[str, str]
) -> None:
    served = serve(**settings)
    given = {"Content-Type": "application/json"}
    if "admin_token" in settings and "X-Admin-Token" not in headers:
        given["Authorization"] = "Bearer s3cret"  # even then
    response = await served.client.post("/reload", content=b"{}", headers=given | headers)
    assert response.status_code in (401, 403)
    assert len(served.loader.sources) == 1


async def test_a_browser_is_not_allowed_to_ask_across_origins(serve: Serve) -> None:
    ask = EVIL | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,authorization",
    }
    for path in ("/reload", "/models/shapes/versions/2/files/config.yaml"):
        response = await serve(admin_open=True).client.options(path, headers=ask)
        assert response.status_code == 405
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("given", ["same", " same "])
def test_the_two_tokens_must_differ(given: str) -> None:
    with pytest.raises(ValidationError, match="are the same") as caught:
        Settings(_env_file=None, admin_token="same", inference_token=given)
    assert "'same'" not in str(caught.value)


def test_two_empty_tokens_are_no_tokens(tmp_path: Path) -> None:
    assert Settings(_env_file=None, admin_token="", inference_token="").admin_open is False
