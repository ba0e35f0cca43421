"""A server to be measured: its address, and the bytes of the requests that it gets."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode, urlsplit

from service.bench.errors import WrongUsage
from service.bench.images import BenchImage

BodyKind = Literal["raw", "multipart", "json"]
DEFAULT_FIELDS: dict[BodyKind, str] = {"raw": "", "multipart": "images", "json": "image"}

# Fixed, since requests are to be the same bytes in every run; no image holds it by chance.
_BOUNDARY = "detserve-bench-5b3c1f9ad7e84a60"


@dataclass(frozen=True)
class Target:
    """One server.

    Attributes:
        name: in tables and plots.
        url: ``http://host:port`` or with ``https``, and a path in front of all of the server's.
        path: where images go, below the path of ``url``.
        body: ``raw``: the image is the body. ``multipart``: a file in the field ``field``. ``json``:
            ``{"<field>": "<base64>"}``.
        options: query parameters of every request.
        headers: further header lines, by name.
        pid: a local process that, with all of its descendants, is the server.
    """

    name: str
    url: str
    path: str = "/predict"
    body: BodyKind = "multipart"
    field: str = ""
    options: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    pid: int | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise WrongUsage(f"{self.url} is not the address of a server: {error}.") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise WrongUsage(
                f"{self.url} is not the address of a server; it looks like http://127.0.0.1:8000."
            )
        if parts.username or parts.query or parts.fragment:
            raise WrongUsage(
                f"{self.url}: give an address without user, query and fragment; there are --header "
                "and --option."
            )
        for name, value in self.headers:
            if not name or not (name + value).isprintable() or not (name + value).isascii():
                raise WrongUsage(f"--header {name!r}: a header is one line of printable ASCII.")

    @property
    def host(self) -> str:
        """Name or address to connect to."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Port to connect to."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """How to speak TLS with an ``https`` address; certificates are checked."""
        return ssl.create_default_context() if urlsplit(self.url).scheme == "https" else None

    def get(self, path: str) -> bytes:
        """The request ``GET path``."""
        return self._head("GET", path, ()) + b"\r\n"

    def predict(self, image: BenchImage) -> bytes:
        """The request that sends ``image``: head and body, ready to be written."""
        kind, body = self._body(image)
        path = self.path + (("&" if "?" in self.path else "?") + urlencode(self.options)) * bool(
            self.options
        )
        extra = (("Content-Type", kind), ("Content-Length", str(len(body))))
        return self._head("POST", path, extra) + b"\r\n" + body

    def _head(self, method: str, path: str, extra: Sequence[tuple[str, str]]) -> bytes:
        parts = urlsplit(self.url)
        where = quote(parts.path.rstrip("/") + "/" + path.lstrip("/"), safe="/?&=%:@,;+-._~!$'()*")
        lines = [f"{method} {where} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in (*extra, *self.headers)]
        return "".join(line + "\r\n" for line in lines).encode("ascii")

    def _body(self, image: BenchImage) -> tuple[str, bytes]:
        field = self.field or DEFAULT_FIELDS[self.body]
        if self.body == "raw":
            return image.media_type, image.data
        if self.body == "json":
            encoded = base64.b64encode(image.data).decode()
            return "application/json", json.dumps({field: encoded}).encode()
        disposition = f'form-data; name="{_quoted(field)}"; filename="{_quoted(image.name)}"'
        head = (
            f"--{_BOUNDARY}\r\nContent-Disposition: {disposition}\r\n"
            f"Content-Type: {image.media_type}\r\n\r\n"
        )
        end = f"\r\n--{_BOUNDARY}--\r\n"
        kind = f"multipart/form-data; boundary={_BOUNDARY}"
        return kind, head.encode() + image.data + end.encode()


def _quoted(text: str) -> str:
    """``text`` within the quotes of a header, as browsers write it."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
