"""Client: the requests that it makes, and a real server behind a socket."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pycocotools.mask
import pytest
from live_server import live_server
from PIL import Image

from service.client import Client, NoConnection, NotFound, Retry, UnsupportedImage

SAMPLES = Path(__file__).parents[3] / "models/pretrained/shapes/samples"


@pytest.fixture
def talk() -> Iterator[Callable[..., tuple[Client, list[httpx.Request]]]]:
    """``talk(answer, **options)``: a client whose requests are answered in turn, and the requests."""
    clients = []

    def start(*answers: httpx.Response, **options: object) -> tuple[Client, list[httpx.Request]]:
        seen: list[httpx.Request] = []
        waiting = list(answers)

        def handle(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return waiting.pop(0)

        http = httpx.Client(transport=httpx.MockTransport(handle))
        clients.append(http)
        return Client("http://host:9/prefix/", http=http, **options), seen  # type: ignore[arg-type]  # options of any kind

    yield start
    for http in clients:
        http.close()


def test_requests_go_below_the_prefix_with_token_and_id(talk: Callable[..., Any]) -> None:
    client, seen = talk(httpx.Response(200, text="m"), token=" secret ")
    assert client.metrics() == "m"
    assert str(seen[0].url) == "http://host:9/prefix/metrics"
    assert seen[0].headers["Authorization"] == "Bearer secret"
    assert len(seen[0].headers["X-Request-ID"]) == 32


def test_all_tries_of_a_call_have_one_id(talk: Callable[..., Any]) -> None:
    busy = httpx.Response(429)
    client, seen = talk(busy, busy, httpx.Response(200, text="m"), retry=Retry(base_s=0.0))
    client.metrics()
    assert len({request.headers["X-Request-ID"] for request in seen}) == 1
    assert len(seen) == 3


def test_images_are_sent_again_in_full(talk: Callable[..., Any]) -> None:
    refused = httpx.Response(404, json={"error": {"code": "c", "message": "m"}})
    client, seen = talk(httpx.Response(503), refused, retry=Retry(base_s=0.0))
    with pytest.raises(NotFound):
        client.predict([b"first image", b"second image"], score_threshold=0.5, classes=["a", "b"])
    for request in seen:
        assert request.url.params.multi_items() == [
            ("score_threshold", "0.5"), ("classes", "a"), ("classes", "b"),
        ]  # fmt: skip
        body = request.read()
        assert body.count(b'name="images"') == 2
        assert body.index(b"first image") < body.index(b"second image")


@pytest.mark.parametrize(
    "url",
    ["host:8000", "ftp://host", "http://", "http://a@host", "http://host?x=1", "http://host:0"],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(url)


@pytest.mark.parametrize("options", [{"token": "ä"}, {"token": "a\nb"}, {"timeout_s": 0}])
def test_arguments_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"token|timeout_s"):
        Client(**options)


def test_nobody_listens() -> None:
    with Client("http://127.0.0.1:1", retry=Retry(attempts=2, base_s=0.0)) as client:
        assert not client.ready()
        with pytest.raises(NoConnection, match=r"127\.0\.0\.1:1/models cannot be reached"):
            client.models()
    assert client._http.is_closed


def test_a_real_server(tmp_path: Path) -> None:
    path = SAMPLES / "shapes-1.jpg"
    with live_server("--device", "cpu", cwd=tmp_path) as server, Client(server.url) as client:
        client.wait_ready()
        [model] = client.models()
        prediction = client.predict(path, score_threshold=0.5)
        found = prediction.instances
        assert len(found) > 0
        assert set(found.class_names) <= set(model.class_names)
        assert found.masks is not None
        assert found.rles is not None
        frames = pycocotools.mask.decode(list(found.rles)).transpose(2, 0, 1)
        assert np.array_equal(found.masks, frames)
        inside = [
            mask[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1].sum() / mask.sum()
            for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes, strict=True)
        ]
        assert min(inside) > 0.9
        with Image.open(path) as picture:
            lossless = client.predict(picture, score_threshold=0.5).instances
            assert prediction.draw(path).size == picture.size
        assert np.allclose(lossless.boxes, found.boxes, atol=1.0)
        with pytest.raises(UnsupportedImage):
            client.predict(b"no image")
        assert client.reload().state == "succeeded"
