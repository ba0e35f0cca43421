"""read_uploads over ASGI: raw, JSON and multipart bodies, and every limit on them."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from starlette.requests import Request

from service.errors import ApiError, ClientDisconnected
from service.uploads import ParsedBody, UploadLimits, read_uploads

pytestmark = pytest.mark.anyio
LIMITS = UploadLimits(max_body_bytes=100_000, max_images=3)
JPEG = b"\xff\xd8\xff\xe0 not really"
B64 = base64.b64encode(JPEG).decode()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def request_of(
    chunks: list[bytes], headers: dict[str, str], *, leaves: bool = False
) -> tuple[Request, list[bytes]]:
    """A request that delivers ``chunks``, then ends, or leaves; and the chunks not yet read."""
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(0), "more_body": True}
        if leaves:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": raw}
    return Request(scope, receive), waiting


async def read(
    body: bytes, content_type: str | None, limits: UploadLimits = LIMITS, size: int = 7
) -> ParsedBody:
    """What ``body`` is read into, delivered in chunks of ``size`` bytes."""
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    headers = {} if content_type is None else {"Content-Type": content_type}
    return await read_uploads(request_of(chunks, headers)[0], limits)


async def refusal(body: bytes, content_type: str, limits: UploadLimits = LIMITS) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await read(body, content_type, limits)
    return caught.value


def form(
    files: list[tuple[str, Any]] | None = None, data: dict[str, Any] | None = None
) -> tuple[bytes, str]:
    """A multipart body as httpx writes it, and its Content-Type."""
    request = httpx.Request("POST", "http://test", files=files or [], data=data)
    return request.read(), request.headers["content-type"]


# Raw bodies


@pytest.mark.parametrize("kind", ["image/jpeg", "image/x-unheard-of", "application/octet-stream"])
async def test_raw_body_is_one_image(kind: str) -> None:
    parsed = await read(JPEG, kind)
    assert [(u.name, u.data, u.error) for u in parsed.uploads] == [("image", JPEG, None)]
    assert parsed.options == {}


async def test_body_without_content_type_is_one_image() -> None:
    assert (await read(JPEG, None)).uploads[0].data == JPEG


async def test_empty_raw_body_is_no_images() -> None:
    error = await refusal(b"", "image/jpeg")
    assert (error.status, error.code) == (422, "no_images")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/x"])
async def test_other_content_types_are_named_what_is_accepted(kind: str) -> None:
    error = await refusal(JPEG, kind)
    assert (error.status, error.code) == (415, "unsupported_content_type")
    assert "multipart/form-data" in error.message


async def test_compressed_body_is_refused() -> None:
    headers = {"Content-Type": "image/jpeg", "Content-Encoding": "gzip"}
    with pytest.raises(ApiError) as caught:
        await read_uploads(request_of([JPEG], headers)[0], LIMITS)
    assert (caught.value.status, caught.value.code) == (415, "unsupported_content_encoding")


# Size and time


async def test_declared_length_over_the_limit_is_refused_before_a_byte_is_read() -> None:
    headers = {"Content-Type": "image/jpeg", "Content-Length": "100001"}
    request, waiting = request_of([b"x" * 100_001], headers)
    with pytest.raises(ApiError) as caught:
        await read_uploads(request, LIMITS)
    assert (caught.value.status, caught.value.code) == (413, "body_too_large")
    assert caught.value.details == {"limit": 100_000, "value": 100_001}
    assert caught.value.headers["connection"] == "close"
    assert len(waiting) == 1


@pytest.mark.parametrize("kind", ["image/png", "application/json", "multipart/form-data"])
async def test_undeclared_length_is_counted_and_reading_stops_at_the_limit(kind: str) -> None:
    body, multipart_type = form([("images", ("a.jpg", b"x" * 400_000))])
    kind = multipart_type if kind == "multipart/form-data" else kind
    chunks = [body[i : i + 10_000] for i in range(0, 400_000, 10_000)]
    request, waiting = request_of(chunks, {"Content-Type": kind})
    with pytest.raises(ApiError) as caught:
        await read_uploads(request, LIMITS)
    assert caught.value.code == "body_too_large"
    assert len(waiting) == 29


async def test_body_at_the_limit_is_read() -> None:
    parsed = await read(b"x" * 100_000, "image/png", size=1000)
    assert len(parsed.uploads[0].data or b"") == 100_000


async def test_client_that_leaves_within_the_body_is_a_disconnect() -> None:
    request, _ = request_of([JPEG], {"Content-Type": "image/jpeg"}, leaves=True)
    with pytest.raises(ClientDisconnected):
        await read_uploads(request, LIMITS)


async def test_body_that_falls_silent_times_out() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    with pytest.raises(ApiError) as caught:
        await read_uploads(Request(scope, receive), replace(LIMITS, body_timeout_s=0.01))
    assert (caught.value.status, caught.value.code) == (408, "request_timeout")
    assert caught.value.headers["connection"] == "close"


async def test_body_that_crawls_times_out() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b"x", "more_body": True}

    limits = replace(LIMITS, body_timeout_s=0.05, min_bytes_per_s=1e6)
    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    with pytest.raises(ApiError) as caught:
        await read_uploads(Request(scope, receive), limits)
    assert caught.value.code == "request_timeout"


# JSON


async def test_json_images_keep_order_names_and_options() -> None:
    body = f'{{"images": ["{B64}", {{"name": "b.png", "data": "{B64}"}}], "score_threshold": 0.5}}'
    parsed = await read(body.encode(), "application/json; charset=utf-8")
    assert [(u.name, u.data) for u in parsed.uploads] == [("image", JPEG), ("b.png", JPEG)]
    assert parsed.options == {"score_threshold": 0.5}


async def test_json_single_image() -> None:
    parsed = await read(f'{{"image": "{B64}"}}'.encode(), "application/json")
    assert [u.data for u in parsed.uploads] == [JPEG]


@pytest.mark.parametrize(
    "text",
    [
        f"data:image/jpeg;base64,{B64}",
        f"DATA:;base64,{B64}",
        "\\n".join(B64[i : i + 8] for i in range(0, len(B64), 8)),
        f"  {B64} ",
    ],
)
async def test_base64_in_a_data_url_or_with_whitespace_is_read(text: str) -> None:
    parsed = await read(f'{{"image": "{text}"}}'.encode(), "application/json")
    assert parsed.uploads[0].data == JPEG


@pytest.mark.parametrize(
    ("item", "code", "hint"),
    [
        ('"aGk"', "invalid_base64", "pad it"),
        ('"aG=k"', "invalid_base64", "position 2"),
        ('"a"', "invalid_base64", "pad it"),
        ('"aGk=="', "invalid_base64", "pad it"),
        ('"aG-_"', "invalid_base64", "URL-safe"),
        ('"aG k!"', "invalid_base64", "position 3"),
        ('"Käse"', "invalid_base64", "position 1"),
        ('"data:image/png,abc"', "invalid_base64", "data URL"),
        ('"data:image/png;base64"', "invalid_base64", "data URL"),
        ('""', "empty_image", "no bytes"),
        ('"https://example.com/cat.jpg"', "url_not_supported", "not fetched"),
        ('"file:///etc/passwd"', "url_not_supported", "not fetched"),
        ("7", "invalid_image_item", "base64 string"),
        ("null", "invalid_image_item", "base64 string"),
        ("[[]]", "invalid_image_item", "base64 string"),
        ('{"name": "x"}', "invalid_image_item", "base64 string"),
        ('{"data": {}}', "invalid_image_item", "base64 string"),
        ('{"data": "aGk=", "regoin": "0,0,5,5"}', "invalid_image_item", "the key 'regoin'"),
        ('{"data": "aGk=", "url": "https://a.b"}', "invalid_image_item", "give one"),
        ('{"url": ""}', "url_not_allowed", "is empty"),
    ],
)
async def test_bad_json_item_carries_its_own_error(item: str, code: str, hint: str) -> None:
    parsed = await read(f'{{"images": ["{B64}", {item}]}}'.encode(), "application/json")
    good, bad = parsed.uploads
    assert good.data == JPEG
    assert bad.data is None
    assert bad.error is not None
    assert bad.error.code == code
    assert hint in bad.error.message
    assert bad.error.status == (400 if code == "invalid_base64" else 422)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b'{"images": NaN}',
        b'{"a": Infinity}',
        b'{"images": ["\xff\xfe"]}',
        b'{"images": ["\\ud800"]}',
        b'{"images": ["a"]} trailing',
        b"\xef\xbb\xbf{}",
        b"[" * 5000,
        b'{"a":' * 5000,
    ],
)
async def test_malformed_json_is_400(body: bytes) -> None:
    error = await refusal(body, "application/json", replace(LIMITS, max_json_values=100_000))
    assert (error.status, error.code) == (400, "malformed_json")


@pytest.mark.parametrize("body", [b"{}", b'{"images": []}', b'{"score_threshold": 1}'])
async def test_json_without_images_is_422(body: bytes) -> None:
    error = await refusal(body, "application/json")
    assert (error.status, error.code) == (422, "no_images")


async def test_json_images_that_are_no_list_are_422() -> None:
    assert (await refusal(b'{"images": "x"}', "application/json")).code == "invalid_images"


async def test_json_with_too_many_images_is_413() -> None:
    error = await refusal(b'{"images": ["","","",""]}', "application/json")
    assert (error.status, error.code) == (413, "too_many_images")
    assert error.details == {"limit": 3, "value": 4}


async def test_json_of_countless_values_is_refused_unparsed() -> None:
    body = b'{"images": [' + b"[]," * 20_000 + b"[]]}"
    limits = replace(LIMITS, max_json_values=30_000)
    assert (await refusal(body, "application/json", limits)).code == "json_too_complex"


async def test_json_and_forms_have_room_for_a_thousand_proposals_of_some_images() -> None:
    boxes = [[[123.456, 234.567, 1034.5678, 987.6543]] * 1000] * 4
    body = orjson.dumps({"image": base64.b64encode(JPEG).decode(), "proposals": boxes})
    limits = UploadLimits()
    parsed = await read(body, "application/json", limits, size=100_000)
    assert parsed.options["proposals"] == boxes
    text = orjson.dumps(boxes).decode()
    parsed = await read(
        *form([("images", ("a.jpg", JPEG))], {"proposals": text}), limits, size=100_000
    )
    assert parsed.options["proposals"] == text


# Multipart


@pytest.mark.parametrize("field", ["images", "image", "file", "files", "images[]"])
async def test_multipart_file_is_an_image(field: str) -> None:
    parsed = await read(*form([(field, ("cat.jpg", JPEG, "image/jpeg"))]))
    assert [(u.name, u.data) for u in parsed.uploads] == [("cat.jpg", JPEG)]


@pytest.mark.parametrize("size", [1, 2, 3, 13, 64, 100_000])
async def test_multipart_is_the_same_however_it_is_chunked(size: int) -> None:
    tricky = b"\r\n--\r\n-\r" + bytes(range(256)) * 3
    body, kind = form(
        [("images", ("a.jpg", tricky)), ("images", ("b.jpg", JPEG))],
        {"score_threshold": "0.5", "classes": ["cat", "dog", "cow"]},
    )
    parsed = await read(body, kind, size=size)
    assert [(u.name, u.data) for u in parsed.uploads] == [("a.jpg", tricky), ("b.jpg", JPEG)]
    assert parsed.options == {"score_threshold": "0.5", "classes": ["cat", "dog", "cow"]}


async def test_multipart_empty_file_carries_its_own_error() -> None:
    parsed = await read(*form([("images", ("a.jpg", b"")), ("images", ("b.jpg", JPEG))]))
    empty, good = parsed.uploads
    assert empty.error is not None
    assert empty.error.code == "empty_image"
    assert good.data == JPEG


async def test_multipart_file_input_left_empty_is_skipped() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="images"; filename=""\r\n\r\n\r\n--x--\r\n'
    error = await refusal(part, "multipart/form-data; boundary=x")
    assert (error.status, error.code) == (422, "no_images")


PART = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n'


@pytest.mark.parametrize(
    ("body", "parameters"),
    [
        (PART + b"\r\ndata\r\n--x--\r\n", ""),
        (PART + b"\r\ndata\r\n--x--\r\n", "; boundary="),
        (PART + b"\r\ndata\r\n--x--\r\n", "; boundary=other"),
        (PART + b"\r\ndata\r\n--x--\r\n", "; boundary=" + "y" * 300),
        (PART + b"\r\ndata\r\n", "; boundary=x"),
        (PART, "; boundary=x"),
        (b"--x--\r\n", "; boundary=x"),
        (b"", "; boundary=x"),
        (b"\r\n\r\n", "; boundary=x"),
        (b"no form at all", "; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\nd\r\n--x--", "; boundary=x"),
        (b"--x\r\n\r\nd\r\n--x--", "; boundary=x"),
        (b"--x\r\nBad Header: 1\r\n\r\nd\r\n--x--", "; boundary=x"),
        (PART + b"Content-Transfer-Encoding: base64\r\n\r\nZA==\r\n--x--", "; boundary=x"),
        (PART + b"A: 1\r\n" * 10_000 + b"\r\nd\r\n--x--", "; boundary=x"),
        (PART + b"A: " + b"1" * 5000 + b"\r\n\r\nd\r\n--x--", "; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--x--',
            "; boundary=x",
        ),
    ],
)
async def test_malformed_multipart_is_400(body: bytes, parameters: str) -> None:
    error = await refusal(body, "multipart/form-data" + parameters)
    assert (error.status, error.code) == (400, "malformed_multipart")


async def test_multipart_with_too_many_images_is_413() -> None:
    body, kind = form([("images", (f"{i}.jpg", JPEG)) for i in range(4)])
    error = await refusal(body, kind)
    assert (error.status, error.code) == (413, "too_many_images")


async def test_multipart_with_too_many_fields_is_413() -> None:
    body, kind = form([("images", ("a.jpg", JPEG))], {str(i): "x" for i in range(33)})
    assert (await refusal(body, kind)).code == "too_many_fields"


async def test_multipart_with_a_huge_field_is_413() -> None:
    body, kind = form([("images", ("a.jpg", JPEG))], {"classes": "x" * 17_000})
    limits = replace(LIMITS, max_field_bytes=16_000)
    assert (await refusal(body, kind, limits)).code == "field_too_large"


async def test_multipart_file_in_an_unknown_field_is_422() -> None:
    body, kind = form([("picture", ("a.jpg", JPEG))])
    error = await refusal(body, kind)
    assert (error.status, error.code) == (422, "unknown_field")
    assert "'picture'" in error.message


async def test_multipart_is_parsed_while_it_arrives() -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield PART + b"\r\n\r\n" + PART.replace(b"--x", b"--x", 1)
        raise AssertionError("read on after the limit was passed")

    iterator = chunks()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": await anext(iterator), "more_body": True}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(b"content-type", b"multipart/form-data; boundary=x")],
    }
    limits = replace(LIMITS, max_images=0)
    with pytest.raises(ApiError, match="limit is 0"):
        await read_uploads(Request(scope, receive), limits)
    await iterator.aclose()
