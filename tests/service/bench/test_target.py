"""The bytes that a target is sent, and addresses that are none."""

import base64
import io
import json

import pytest
from peer_server import Received
from python_multipart.multipart import MultipartParser

from service.bench.errors import WrongUsage
from service.bench.images import BenchImage
from service.bench.target import BodyKind, Target

URL = "http://127.0.0.1:8000"


def sent(request: bytes) -> Received:
    """A request, parsed by hand."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, version = first.split(" ")
    assert version == "HTTP/1.1"
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert int(headers.get("content-length", 0)) == len(body)
    return Received(method, path, headers, body)


def test_a_raw_body_is_the_image(image: BenchImage) -> None:
    request = sent(Target("A", URL, body="raw").predict(image))
    assert (request.method, request.path) == ("POST", "/predict")
    assert request.headers["host"] == "127.0.0.1:8000"
    assert request.headers["content-type"] == "image/jpeg"
    assert request.body == image.data


def test_a_multipart_body_has_the_image_as_a_file(image: BenchImage) -> None:
    request = sent(Target("A", URL, field="file").predict(image))
    boundary = request.headers["content-type"].partition("boundary=")[2]
    data, headers = io.BytesIO(), io.BytesIO()
    parser = MultipartParser(
        boundary,
        {
            "on_part_data": lambda chunk, start, end: data.write(chunk[start:end]),
            "on_header_value": lambda chunk, start, end: headers.write(chunk[start:end]),
        },
    )
    parser.write(request.body)
    parser.finalize()
    assert data.getvalue() == image.data
    assert b'name="file"; filename="a.jpg"' in headers.getvalue()


def test_a_json_body_has_it_in_base64(image: BenchImage) -> None:
    request = sent(Target("A", URL, body="json").predict(image))
    assert request.headers["content-type"] == "application/json"
    assert base64.b64decode(json.loads(request.body)["image"]) == image.data


@pytest.mark.parametrize("body", ["raw", "multipart", "json"])
def test_options_are_query_parameters(image: BenchImage, body: BodyKind) -> None:
    options = (("score_threshold", "0.5"), ("classes", "a&b"), ("classes", "ü"))
    request = sent(Target("A", URL, body=body, options=options).predict(image))
    assert request.path == "/predict?score_threshold=0.5&classes=a%26b&classes=%C3%BC"


def test_the_path_may_have_a_query_and_the_address_a_path(image: BenchImage) -> None:
    target = Target("A", URL + "/v1/", path="infer?x=1", options=(("y", "2"),))
    assert sent(target.predict(image)).path == "/v1/infer?x=1&y=2"
    assert sent(target.get("/metrics")).path == "/v1/metrics"


def test_headers_go_with_every_request(image: BenchImage) -> None:
    target = Target("A", URL, headers=(("Authorization", "Bearer t"),))
    for request in (target.predict(image), target.get("/readyz")):
        assert sent(request).headers["authorization"] == "Bearer t"


def test_a_file_name_cannot_break_the_form() -> None:
    odd = BenchImage('a"\r\nX: y.jpg', b"data", "image/jpeg", 1, 1)
    request = sent(Target("A", URL).predict(odd))
    assert b'filename="a%22%0D%0AX: y.jpg"' in request.body


def test_ports_have_defaults() -> None:
    assert Target("A", "http://host").port == 80
    assert Target("A", "https://host").port == 443
    assert Target("A", "https://host").tls is not None
    assert Target("A", "http://[::1]:81").host == "::1"
    assert Target("A", "http://host").tls is None


@pytest.mark.parametrize(
    "url",
    ["host:8000", "ftp://host", "http://", "http://host:port", "http://host:99999", "http://host:0",
     "http://u:p@host", "http://host/?a=1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(WrongUsage):
        Target("A", url)


@pytest.mark.parametrize("header", [("", "x"), ("A\r\nB", "x"), ("A", "x\r\ny"), ("A", "ü")])
def test_a_header_that_is_none_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(WrongUsage, match="--header"):
        Target("A", URL, headers=(header,))
