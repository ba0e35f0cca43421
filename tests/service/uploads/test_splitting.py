"""MultipartSplitter: where parts begin and end, however the body arrives and whatever is in them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NoReturn

import pytest
from python_multipart.multipart import MultipartParser

from service.uploads.splitting import MalformedMultipart, MultipartSplitter

BOUNDARY = b"x-7d9f"
HEAD = b'Content-Disposition: form-data; name="images"'


class TooLargeError(Exception):
    """What the sink raises."""


class Parts:
    """A sink that keeps everything."""

    def __init__(self, allowed: int | None = None) -> None:
        self.allowed = allowed
        self.headers: list[dict[bytes, bytes]] = []
        self.data: list[bytes] = []

    def begin_part(self, headers: Mapping[bytes, bytes]) -> int | None:
        self.headers.append(dict(headers))
        return self.allowed

    def part_too_large(self, size: int) -> NoReturn:
        raise TooLargeError(size)

    def end_part(self, data: bytes) -> None:
        self.data.append(data)


def split(body: bytes, *, size: int = 10_000, parts: Parts | None = None) -> tuple[Parts, bool]:
    """The parts of ``body``, fed in chunks of ``size``; and whether its end was seen."""
    parts = parts or Parts()
    splitter = MultipartSplitter(BOUNDARY, parts, max_headers=8, max_header_bytes=200)
    for start in range(0, len(body), size):
        splitter.feed(body[start : start + size])
    return parts, splitter.ended


def body_of(*contents: bytes, head: bytes = HEAD) -> bytes:
    parts = [b"--%b\r\n%b\r\n\r\n%b\r\n" % (BOUNDARY, head, content) for content in contents]
    return b"".join(parts) + b"--%b--\r\n" % BOUNDARY


TRICKY = (
    b"",
    b"\r\n",
    b"\r",
    b"\r\n--" + BOUNDARY[:-1],
    b"\r\n--" + BOUNDARY + b"y",
    b"\r\n--" + BOUNDARY + b"\x00--\r\n--",
    b"\r\n\r\n--x\r\n" * 3,
    bytes(range(256)),
)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64, 10_000])
@pytest.mark.parametrize("content", TRICKY)
def test_contents_come_out_as_they_went_in(content: bytes, size: int) -> None:
    parts, ended = split(body_of(content, b"second"), size=size)
    assert parts.data == [content, b"second"]
    assert ended


def test_random_bodies_are_split_as_python_multipart_splits_them() -> None:
    source = random.Random(0)
    pieces = [b"\r", b"\n", b"-", b"--", b"\r\n", b"\r\n--", BOUNDARY, BOUNDARY[:3], b"a", b"\xff"]
    for _ in range(300):
        contents = [
            b"".join(source.choices(pieces, k=source.randrange(12)))
            for _ in range(source.randrange(1, 4))
        ]
        # A boundary on a line of its own would end the part, rightly.
        if any(b"\r\n--" + BOUNDARY in b"\r\n" + content for content in contents):
            continue
        body = body_of(*contents)
        parts, ended = split(body, size=source.randrange(1, 40))
        assert parts.data == contents == by_python_multipart(body)
        assert ended


def by_python_multipart(body: bytes) -> list[bytes]:
    found: list[bytes] = []

    def begin() -> None:
        found.append(b"")

    def data(chunk: bytes, start: int, end: int) -> None:
        found[-1] += chunk[start:end]

    parser = MultipartParser(BOUNDARY, {"on_part_begin": begin, "on_part_data": data})
    parser.write(body)
    return found


def test_headers_are_lower_case_names_and_bare_values() -> None:
    head = b"Content-Type:image/jpeg\r\nX-A:\t b  c \t"
    parts, _ = split(body_of(b"data", head=head), size=3)
    assert parts.headers == [{b"content-type": b"image/jpeg", b"x-a": b"b  c"}]


def test_a_part_may_have_no_headers_and_no_bytes() -> None:
    body = b"--%b\r\n\r\ndata\r\n--%b\r\n\r\n--%b--" % ((BOUNDARY,) * 3)
    parts, ended = split(body, size=1)
    assert (parts.headers, parts.data, ended) == ([{}, {}], [b"data", b""], True)


def test_line_breaks_before_and_anything_behind_are_ignored() -> None:
    parts, ended = split(b"\r\n\r\n" + body_of(b"data") + b"--x--\r\nepilogue", size=2)
    assert (parts.data, ended) == ([b"data"], True)


def test_blanks_may_follow_a_boundary() -> None:
    body = body_of(b"data").replace(BOUNDARY + b"\r\n", BOUNDARY + b" \t\r\n")
    assert split(body, size=1)[0].data == [b"data"]


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_body_that_is_cut_off_has_no_end(cut: int) -> None:
    body = body_of(b"data" * 10).rstrip(b"\r\n")
    assert not split(body[:-cut])[1]


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"preamble\r\n" + body_of(b"data"), "begin with its boundary"),
        (b"-", None),
        (b"--y", "begin with its boundary"),
        (body_of(b"data").replace(BOUNDARY + b"\r\n", BOUNDARY + b"\n"), "alone on its line"),
        (b"--" + BOUNDARY + b" " * 300, "alone on its line"),
        (body_of(b"data", head=b"no colon"), "a header that is none"),
        (body_of(b"data", head=b"Bad Name: 1"), "a header that is none"),
        (body_of(b"data", head=b"A: b\x00c"), "a header that is none"),
        (body_of(b"data", head=b"A: b\r\n folded"), "a header that is none"),
        (body_of(b"data", head=b"A: " + b"b" * 300), "longer than 200 bytes"),
        (body_of(b"data", head=b"\r\n".join([b"A: b"] * 9)), "more than 8 headers"),
        (body_of(b"data", head=b"A: b\r\n" * 400), "too large|more than 8 headers"),
        (b"--" + BOUNDARY + b"\r\n" + b"a" * 3000, "too large"),
    ],
)
def test_what_is_no_multipart_body_is_said(body: bytes, problem: str | None, size: int) -> None:
    if problem is None:
        assert not split(body, size=size)[1]
        return
    with pytest.raises(MalformedMultipart, match=problem):
        split(body, size=size)


def test_a_boundary_has_a_bound() -> None:
    with pytest.raises(MalformedMultipart, match="longer than"):
        MultipartSplitter(b"x" * 257, Parts(), max_headers=8, max_header_bytes=200)


@pytest.mark.parametrize("size", [1, 10, 10_000])
def test_a_part_over_its_bound_is_refused_before_it_is_all_there(size: int) -> None:
    body = body_of(b"a" * 101)
    with pytest.raises(TooLargeError):
        split(body[:-1], size=size, parts=Parts(allowed=100))
    with pytest.raises(TooLargeError):
        split(body[:190], size=size, parts=Parts(allowed=100))
    assert split(body_of(b"a" * 100), size=size, parts=Parts(allowed=100))[0].data == [b"a" * 100]


def test_a_part_is_handed_over_as_soon_as_it_is_complete() -> None:
    parts = Parts()
    splitter = MultipartSplitter(BOUNDARY, parts, max_headers=8, max_header_bytes=200)
    splitter.feed(body_of(b"first").removesuffix(b"--\r\n") + b"\r")
    assert parts.data == [b"first"]
