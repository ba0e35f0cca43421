"""/ and /playground/: which files are served, and with what headers; tests/browser tries the page itself."""

from __future__ import annotations

import re

import pytest
from fake_server import Serve

from service.playground import STATIC

pytestmark = pytest.mark.anyio


async def test_the_root_is_the_page(serve: Serve) -> None:
    response = await serve().client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "<title>detserve playground</title>" in response.text


async def test_the_page_needs_no_token(serve: Serve) -> None:
    client = serve(inference_token="s3cret").client
    assert (await client.get("/")).status_code == 200
    assert (await client.get("/playground/app.js")).status_code == 200


@pytest.mark.parametrize(
    ("name", "kind"),
    [("app.js", "text/javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
async def test_files_have_the_types_that_browsers_insist_on(
    serve: Serve, name: str, kind: str
) -> None:
    response = await serve().client.get(f"/playground/{name}")
    assert response.headers["content-type"].startswith(kind)
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    ["/", "/playground/app.js", "/playground/samples.json", "/playground/samples/shapes-1.jpg"],
)
async def test_everything_carries_the_policy(serve: Serve, path: str) -> None:
    response = await serve().client.get(path)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy


async def test_the_samples_are_listed_and_served(serve: Serve) -> None:
    client = serve().client
    names = (await client.get("/playground/samples.json")).json()["samples"]
    assert names == ["shapes-1.jpg", "shapes-2.jpg"]
    for name in names:
        assert (await client.get(f"/playground/samples/{name}")).content.startswith(b"\xff\xd8")


async def test_a_file_that_the_browser_has_is_not_sent_again(serve: Serve) -> None:
    client = serve().client
    first = await client.get("/playground/style.css")
    again = await client.get(
        "/playground/style.css", headers={"If-None-Match": first.headers["etag"]}
    )
    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize(
    "path",
    [
        "/playground/nope.js",
        "/playground/%2e%2e/__init__.py",
        "/playground/samples/..%2f..%2fconfig.yaml",
    ],
)
async def test_no_other_file_is_served(serve: Serve, path: str) -> None:
    response = await serve().client.get(path)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


async def test_metrics_name_the_mount_and_no_path_of_a_clients(serve: Serve) -> None:
    client = serve().client
    for path in ("/", "/playground/app.js", "/playground/nope-4711.js", "/playground/samples/x"):
        await client.get(path)
    text = (await client.get("/metrics")).text
    assert 'route="/playground"' in text
    assert "4711" not in text


async def test_the_routes_are_no_part_of_the_api_document(serve: Serve) -> None:
    paths = (await serve().client.get("/openapi.json")).json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/playground")]


def test_the_page_has_no_inline_code_and_no_absolute_address() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script>|javascript:", page)
    assert not re.search(r"""(?:src|href)=["'](?:/|https?:)""", page)


def test_no_script_makes_markup_of_text() -> None:
    for path in STATIC.glob("*.js"):
        source = path.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", source
        )


def test_ids_that_scripts_look_up_stand_in_the_page() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for path in STATIC.glob("*.js"):
        for name in re.findall(r'byId\("([^"]+)"\)', path.read_text(encoding="utf-8")):
            assert name in ids, f"{path.name}: {name}"
