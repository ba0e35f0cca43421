"""NDJSON bodies: an image a line, and lines that are none."""

import base64
import json
from dataclasses import replace

import pytest

from service.errors import ApiError
from service.uploads import ParsedBody, UploadLimits
from service.uploads.ndjson_body import parse_ndjson_images

LIMITS = UploadLimits(max_images=3)
JPEG = b"\xff\xd8\xff\xe0 not really"
B64 = base64.b64encode(JPEG).decode()
LINE = json.dumps({"name": "b.jpg", "data": B64}).encode()


def read(*lines: bytes, end: bytes = b"\n", limits: UploadLimits = LIMITS) -> ParsedBody:
    return parse_ndjson_images(end.join(lines), limits)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_is_an_image_and_empty_lines_are_none(end: bytes) -> None:
    body = read(b'"' + B64.encode() + b'"', b"", LINE, b"  ", b"", end=end)
    assert [(u.name, u.data) for u in body.uploads] == [("image", JPEG), ("b.jpg", JPEG)]
    assert body.options == {}


@pytest.mark.parametrize(
    ("line", "code", "part"),
    [
        (b'{"data": ', "malformed_json", "Line 2 is not valid JSON"),
        (b"\xff\xfe", "malformed_json", "Line 2"),
        (b"[" * 2000, "malformed_json", "Line 2"),
        (b"3", "invalid_image_item", "Image 2"),
        (b"{}", "invalid_image_item", "Image 2"),
        (b'{"url": 3}', "invalid_image_item", "Image 2"),
        (b'{"data": "?"}', "invalid_base64", "position 0"),
        (b'{"data": ""}', "empty_image", "no bytes"),
        (b'{"data": "aGk=", "tta": "full"}', "invalid_image_item", "query parameters"),
        (b'{"url": "https://h.example/a.jpg"}', "urls_disabled", "--allow-urls"),
        (b'{"data": "https://h.example/a.jpg"}', "url_not_supported", '"url"'),
    ],
)
def test_a_line_that_is_no_image_has_its_own_error(line: bytes, code: str, part: str) -> None:
    first, broken, last = read(LINE, line, LINE).uploads
    assert (first.data, last.data) == (JPEG, JPEG)
    assert broken.error is not None
    assert broken.error.code == code
    assert part in broken.error.message


@pytest.mark.parametrize("body", [b"", b"\n \n\r\n"])
def test_no_lines_are_no_images(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_ndjson_images(body, LIMITS)
    assert (caught.value.status, caught.value.code) == (422, "no_images")


def test_too_many_lines_are_refused_before_any_is_parsed() -> None:
    with pytest.raises(ApiError) as caught:
        read(*[b"{"] * 4)
    assert (caught.value.status, caught.value.code) == (413, "too_many_images")
    assert caught.value.details == {"limit": 3, "value": 4}


def test_too_many_values_are_refused_as_in_json() -> None:
    limits = replace(LIMITS, max_json_values=10)
    with pytest.raises(ApiError) as caught:
        read(LINE, b"[" + b"0," * 10 + b"0]", limits=limits)
    assert (caught.value.status, caught.value.code) == (413, "json_too_complex")
