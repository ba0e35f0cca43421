"""The first words with a target, and what keeps it from being measured."""

from collections.abc import Callable

import pytest
from peer_server import PATIENCE_S, PeerServer, Received, peer_server, reply

from service.bench.errors import BenchError
from service.bench.greeting import greet, version_of
from service.bench.images import BenchImage
from service.bench.target import Target
from service.metrics import Metrics

Peer = Callable[..., PeerServer]

TWO_INSTANCES = b'{"predictions": [{"instances": {"scores": [0.9, 0.8]}}]}'

pytestmark = pytest.mark.anyio


def like_ours(request: Received) -> bytes:
    if request.path == "/metrics":
        return reply(200, Metrics().render())
    return reply(200, TWO_INSTANCES)


async def test_of_a_detserve_versions_and_instances_are_known(
    peer: Peer, image: BenchImage
) -> None:
    greeting = await greet(Target("A", peer(like_ours).url), image, timeout_s=PATIENCE_S)
    assert greeting.scrapes
    assert version_of(greeting.build).startswith("detserve ")
    assert greeting.instances == 2
    assert greeting.answer_bytes == len(TWO_INSTANCES)


async def test_another_server_needs_no_more_than_to_take_the_image(
    peer: Peer, image: BenchImage
) -> None:
    server = peer()
    greeting = await greet(Target("A", server.url, path="/infer"), image, timeout_s=PATIENCE_S)
    assert not greeting.scrapes
    assert (greeting.build, greeting.models, greeting.instances) == ({}, [], None)
    assert version_of(greeting.build) == ""
    assert [request.path for request in server.images] == ["/infer"]


async def test_a_page_at_metrics_is_no_metrics(peer: Peer, image: BenchImage) -> None:
    server = peer(lambda request: reply(200, b"<html>the answer to everything</html>"))
    greeting = await greet(Target("A", server.url), image, timeout_s=PATIENCE_S)
    assert not greeting.scrapes


async def refusal(server: PeerServer, image: BenchImage, timeout_s: float = PATIENCE_S) -> str:
    with pytest.raises(BenchError) as caught:
        await greet(Target("A", server.url), image, timeout_s=timeout_s)
    return str(caught.value).replace(server.url, "URL")


async def test_nobody_there(image: BenchImage) -> None:
    with peer_server() as server:
        pass
    assert await refusal(server, image) == "URL cannot be reached: Connection refused."


async def test_not_http(peer: Peer, image: BenchImage) -> None:
    server = peer(lambda request: b"SSH-2.0\r\n")
    assert await refusal(server, image) == "URL cannot be reached: what it sends is not HTTP."


async def test_not_ready(peer: Peer, image: BenchImage) -> None:
    server = peer(lambda request: reply(503, {"status": "not ready", "reason": "it drains"}))
    assert await refusal(server, image) == "URL is not ready: it drains"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error": {"message": "Image too large."}}', "Image too large."),
        (b'{"detail": "no"}', '{"detail": "no"}'),
        (b"[1]", "[1]"),
        (b"plain\ntext", "plain text"),
        (b"", "(no text)"),
    ],
)
async def test_an_image_that_is_refused(
    peer: Peer, image: BenchImage, body: bytes, reason: str
) -> None:
    server = peer(lambda request: reply(422 if request.method == "POST" else 404, body))
    expected = f"URL answers 422 to a.jpg at /predict: {reason}"
    assert await refusal(server, image) == expected


async def test_an_image_that_is_not_answered(peer: Peer, image: BenchImage) -> None:
    server = peer(lambda request: None if request.method == "POST" else reply(404))
    expected = "URL did not answer to a.jpg at /predict: it closed the connection."
    assert await refusal(server, image) == expected
