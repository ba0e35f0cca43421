"""Images that a request names by URL, in every kind of body."""

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fake_detector import FakeDetector, answered_mark, picture
from fake_server import Serve, Served
from remote_server import NAME, FakeNetwork, RemoteServer, http, limits_of

from service.uploads import Upload, UploadLimits, fetch_uploads

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[RemoteServer]:
    async with RemoteServer() as running:
        for mark in range(1, 4):
            running.answers[f"/{mark}.png"] = http(body=picture(mark))
        yield running


@pytest.fixture
def limits(server: RemoteServer) -> UploadLimits:
    return UploadLimits(remote=limits_of(FakeNetwork(server)))


@pytest.fixture
def served(serve: Serve, limits: UploadLimits) -> Served:
    started = serve(FakeDetector(), allow_urls=True)
    started.runtime.upload_limits = replace(started.runtime.upload_limits, remote=limits.remote)
    return started


def url(mark: int | str) -> str:
    return f"https://{NAME}/{mark}.png"


def by_url(limits: UploadLimits, *urls: str) -> list[Upload]:
    return [Upload.by_url(url, index, limits) for index, url in enumerate(urls)]


def told(response: httpx.Response) -> list[tuple[str, Any]]:
    """Names, and marks or codes."""
    assert response.status_code == 200, response.text
    return [
        (
            prediction["image"]["name"],
            prediction["error"]["code"] if "error" in prediction else answered_mark(prediction),
        )
        for prediction in response.json()["predictions"]
    ]


async def test_every_kind_of_body_may_name_urls(served: Served) -> None:
    in_base64 = base64.b64encode(picture(9)).decode()
    post = served.client.post
    answer = await post("/predict", json={"images": [{"url": url(1)}, in_base64]})
    assert told(answer) == [("1.png", 1), ("image-2", 9)]
    answer = await post("/predict", json={"image": {"url": url(2), "name": "two"}})
    assert told(answer) == [("two", 2)]
    lines = f'{{"url": "{url(1)}"}}\n{{"data": "{in_base64}"}}'
    answer = await post("/predict", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert told(answer) == [("1.png", 1), ("image-2", 9)]
    files = [
        ("url", (None, url(3))), ("images", ("a.png", picture(9))), ("url", (None, url(1))),
    ]  # fmt: skip
    answer = await post("/predict", files=files)
    assert told(answer) == [("3.png", 3), ("a.png", 9), ("1.png", 1)]


async def test_a_url_that_fails_costs_the_others_nothing(served: Served) -> None:
    bad = [{"url": text} for text in (url("missing"), "https://127.0.0.1/a.png", "?")]
    answer = await served.client.post("/predict", json={"images": [*bad, {"url": url(1)}]})
    assert [what for _, what in told(answer)] == [
        "url_failed", "url_not_allowed", "url_not_allowed", 1,
    ]  # fmt: skip


async def test_without_the_setting_no_url_is_fetched(serve: Serve, server: RemoteServer) -> None:
    answer = await serve(FakeDetector()).client.post("/predict", json={"image": {"url": url(1)}})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "urls_disabled"
    assert server.heads == []


async def test_a_fetch_holds_no_place_in_the_queue(served: Served, server: RemoteServer) -> None:
    depths = []

    async def look(writer: Any) -> None:
        depths.append(served.runtime.scheduler.depth)
        writer.write(http(body=picture(1)))
        await writer.drain()

    server.answers["/1.png"] = look
    await served.client.post("/predict", json={"image": {"url": url(1)}})
    assert depths == [0]


async def test_all_urls_together_have_the_bytes_of_one_body(limits: UploadLimits) -> None:
    limits = replace(limits, max_body_bytes=2 * len(picture(1)))
    uploads = await fetch_uploads(by_url(limits, url(1), url(2), url(3)), limits)
    codes = [upload.error.code for upload in uploads if upload.error is not None]
    assert codes == ["urls_too_large"]
    assert len([upload for upload in uploads if upload.data]) == 2


async def test_an_empty_file_is_its_own_error(server: RemoteServer, limits: UploadLimits) -> None:
    server.answers["/empty.png"] = http()
    (upload,) = await fetch_uploads(by_url(limits, url("empty")), limits)
    assert upload.error is not None
    assert (upload.error.code, upload.url) == ("empty_image", None)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"https://{NAME}/a/b%20c.jpg?x=y.png#z", "b c.jpg"),
        (f"https://{NAME}/", "image-2"),
        (f"https://{NAME}", "image-2"),
        (f"https://{NAME}/..%2f..%2fetc%2fpasswd", "passwd"),
        ("https://[", "image-2"),
    ],
)
async def test_an_image_is_called_by_the_end_of_its_path(
    limits: UploadLimits, text: str, name: str
) -> None:
    assert Upload.by_url(text, 1, limits).name == name


async def test_settings_say_where_urls_may_lead(serve: Serve) -> None:
    settings = {"url_schemes": "https,http", "url_ports": "8443", "url_hosts": "*.a.example,b"}
    served = serve(FakeDetector(), allow_urls=True, url_timeout_s=3, **settings)
    remote = served.runtime.upload_limits.remote
    assert remote is not None
    assert (remote.schemes, remote.ports) == ({"http", "https"}, {8443})
    assert (remote.hosts, remote.total_s) == (("*.a.example", "b"), 3)
    assert remote.max_bytes == served.runtime.settings.max_body_bytes
