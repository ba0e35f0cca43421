"""Tokens as the password of HTTP's basic authentication, for clients that know no other."""

import base64

import pytest
from fake_server import Serve

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("user", ["", "anybody", "ädmin"])
async def test_the_password_is_the_token_and_the_user_is_free(serve: Serve, user: str) -> None:
    response = await serve(inference_token="se:cret").client.get("/models", auth=(user, "se:cret"))
    assert response.status_code == 200


@pytest.mark.parametrize(
    "credentials",
    [
        "*", "====", "", base64.b64encode(b"secret").decode(), base64.b64encode(b"secret:").decode(),
        base64.b64encode(b":secret2").decode(), base64.b64encode(b":\xff").decode(),
    ],
)  # fmt: skip
async def test_anything_else_is_refused(serve: Serve, credentials: str) -> None:
    headers = {"Authorization": f"Basic {credentials}"}
    response = await serve(inference_token="secret").client.get("/models", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_a_page_that_holds_the_password_of_an_admin_is_still_kept_out(serve: Serve) -> None:
    served = serve(admin_token="secret")
    headers = {"Origin": "http://evil.example"}
    response = await served.client.post("/reload", json={}, headers=headers, auth=("", "secret"))
    assert response.json()["error"]["code"] == "admin_forbidden"
