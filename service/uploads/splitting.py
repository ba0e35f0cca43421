"""Splits a multipart body into its parts while it arrives (RFC 2046, section 5.1).

A part's bytes are found by searching for the boundary in what has arrived, and copied once. A parser
that looks at every byte with callbacks costs several times as much as all else that an upload needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

_MAX_BOUNDARY = 256  # RFC 2046 allows 70; some clients take more

# A field name is a token (RFC 9110), and its value is of visible characters, blanks and UTF-8.
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\x00-\x08\x0a-\x1f\x7f]*)")


class MalformedMultipart(Exception):  # says what is wrong; the caller makes an answer of it
    """The body is not multipart; the text completes "the multipart body is malformed: ..."."""


class PartSink(Protocol):
    """Takes the parts. Whatever it raises ends the splitting."""

    def begin_part(self, headers: Mapping[bytes, bytes]) -> int | None:
        """A part's head is complete: names in lower case.

        Returns:
            How many bytes the part may have; None if only the whole body is bounded.
        """

    def part_too_large(self, size: int) -> None:
        """The part has at least ``size`` bytes, more than it may have; must raise."""

    def end_part(self, data: bytes) -> None:
        """The part's bytes, all of them."""


class MultipartSplitter:
    """Feed it the chunks of a body; it calls its sink as soon as something is complete.

    Attributes:
        ended: the closing boundary was seen; what follows it is ignored.
        parts: parts that have begun.
    """

    def __init__(
        self,
        boundary: bytes,
        sink: PartSink,
        *,
        max_headers: int,
        max_header_bytes: int,
    ) -> None:
        """Split at ``boundary``, with bounds on the header lines of a part and on each of them.

        Raises:
            MalformedMultipart: the boundary is too long.
        """
        if len(boundary) > _MAX_BOUNDARY:
            raise MalformedMultipart(f"its boundary is longer than {_MAX_BOUNDARY} bytes")
        self.ended = False
        self.parts = 0
        self._delimiter = b"\r\n--" + boundary
        self._sink = sink
        self._max_headers = max_headers
        self._max_header_bytes = max_header_bytes
        self._max_head_bytes = max_headers * (max_header_bytes + 2) + 2
        # What has arrived and is not yet done with; bytes as long as one chunk suffices. The first
        # delimiter lacks the line break that belongs to all others.
        self._data: bytes | bytearray = b""
        self._searched = 0
        self._step = self._begin
        self._allowed: int | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk.

        Raises:
            MalformedMultipart: what has arrived cannot be the beginning of a multipart body.
        """
        if not self._data:
            self._data = chunk
        else:
            if isinstance(self._data, bytes):
                self._data = bytearray(self._data)
            self._data += chunk
        position = 0
        while not self.ended:
            after = self._step(position)
            if after is None:
                break
            position = after
        if self.ended:
            self._data = b""
        elif position:
            self._data = self._data[position:]

    # Each step looks at the data from a position and returns where the next step begins, or None
    # when it needs more.

    def _begin(self, position: int) -> int | None:
        """The first boundary, behind nothing but line breaks."""
        opening = self._delimiter[2:]
        data = self._data
        while data.startswith(b"\r\n", position):
            position += 2
        if len(data) - position < len(opening):
            if not opening.startswith(data[position:]) and data[position:] != b"\r":
                raise MalformedMultipart("it does not begin with its boundary")
            return None
        if not data.startswith(opening, position):
            raise MalformedMultipart("it does not begin with its boundary")
        self._step = self._after_delimiter
        return position + len(opening)

    def _after_delimiter(self, position: int) -> int | None:
        """``--`` for the end, or blanks and a line break."""
        data = self._data
        if data.startswith(b"--", position):
            self.ended = True
            return position + 2
        end = data.find(b"\n", position, position + self._max_header_bytes)
        if end < 0:
            if len(data) - position >= self._max_header_bytes:
                raise MalformedMultipart("a boundary is not alone on its line")
            return None
        if data[position:end].strip(b" \t") != b"\r":
            raise MalformedMultipart("a boundary is not alone on its line")
        self._step = self._head
        self._searched = 0
        return end + 1

    def _head(self, position: int) -> int | None:
        """The header lines of a part, up to the empty one."""
        data = self._data
        if data.startswith(b"\r\n", position):
            lines, after = [], position + 2
        else:
            # Three bytes of the empty line may have been there the last time.
            end = data.find(b"\r\n\r\n", max(position, position + self._searched - 3))
            if end < 0:
                self._searched = len(data) - position
                if self._searched > self._max_head_bytes:
                    raise MalformedMultipart("the headers of a part are too large")
                return None
            lines, after = bytes(data[position:end]).split(b"\r\n"), end + 4
        if len(lines) > self._max_headers:
            raise MalformedMultipart(f"a part has more than {self._max_headers} headers")
        headers = dict(self._header(line) for line in lines)
        self.parts += 1
        self._allowed = self._sink.begin_part(headers)
        self._step = self._body
        self._searched = 0
        return after - 2  # an empty part's delimiter begins with the line break of its empty line

    def _header(self, line: bytes) -> tuple[bytes, bytes]:
        if len(line) > self._max_header_bytes:
            raise MalformedMultipart(
                f"a header of a part is longer than {self._max_header_bytes} bytes"
            )
        header = _HEADER.fullmatch(line)
        if header is None:
            raise MalformedMultipart("a part has a header that is none")
        return header[1].lower(), header[2].strip(b" \t")

    def _body(self, position: int) -> int | None:
        """The bytes of a part, up to the next delimiter."""
        data, delimiter = self._data, self._delimiter
        start = position + 2
        end = data.find(delimiter, max(position, position + self._searched))
        # Other bytes may go on like a boundary: then they are data.
        while (
            0 <= end < len(data) - len(delimiter) and data[end + len(delimiter)] not in _FOLLOWING
        ):
            end = data.find(delimiter, end + 1)
        # A delimiter, or the byte that tells whether it is one, may not have arrived in full.
        pending = max(position, len(data) - len(delimiter))
        found = 0 <= end < pending
        known = (end if found else pending) - start
        if self._allowed is not None and known > self._allowed:
            self._sink.part_too_large(known)
        if not found:
            self._searched = pending - position
            return None
        self._sink.end_part(bytes(memoryview(data)[start : max(start, end)]))
        self._step = self._after_delimiter
        return end + len(delimiter)


_FOLLOWING = b"-\r \t"
"""What may follow a boundary."""
