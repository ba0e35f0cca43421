"""A running server as its admin meets it: requests one after the other, and files that are streamed."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

TIMEOUT_S = 60.0
"""To connect, and the longest silence; loading a version is waited for by asking again."""

_CHUNK = 1 << 20
_MAX_ANSWER = 16 << 20


class AdminError(Exception):
    """The server cannot be reached, or refuses; the message is one sentence.

    Attributes:
        status: the HTTP status; 0 if there is none.
        code: of the server's error; "" if there is none.
        details: likewise.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "",
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details or {}


class AdminClient:
    """The admin of the server at ``url``.

    Args:
        url: ``http://host:port`` or with ``https``, and a path in front of all of the server's.
        token: its admin token, if it has one.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        """Raises :class:`ValueError` if ``url`` or ``token`` cannot be one."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(
                f"{url!r} is not the address of a server; it looks like http://127.0.0.1:8000."
            )
        if parts.username or parts.query or parts.fragment:
            raise ValueError(f"{url!r}: give an address without user, query and fragment.")
        token = (token or "").strip()
        if not (token.isascii() and (token.isprintable())):
            raise ValueError("The token is not one line of printable ASCII.")
        self.url = url
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._token = token

    def get(self, *path: str) -> dict[str, Any]:
        """``GET`` of the path with these parts. Raises :class:`AdminError`."""
        return self._exchange("GET", path)

    def send(self, method: str, *path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request with a JSON body; the answer, empty if it has none. Raises :class:`AdminError`."""
        content = json.dumps(body or {}).encode()

        def write(connection: http.client.HTTPConnection) -> None:
            connection.send(content)

        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        return self._exchange(method, path, headers, write)

    def upload(
        self,
        file: Path,
        *path: str,
        size: int,
        sha256: str,
        progress: Callable[[int], None],
    ) -> dict[str, Any]:
        """``PUT`` a file in pieces.

        Args:
            path: where to.
            size: the file's, in bytes.
            sha256: of its content; the server refuses another.
            progress: is told how many more bytes were sent.

        Raises:
            AdminError: it cannot be sent, or is refused.
            OSError: the file cannot be read.
        """

        def write(connection: http.client.HTTPConnection) -> None:
            left = size
            while left and (chunk := reader.read(min(_CHUNK, left))):
                connection.send(chunk)
                left -= len(chunk)
                progress(len(chunk))
            if left:
                raise AdminError(f"{file.name} became shorter while it was sent; add it again.")

        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "X-Content-SHA256": sha256,
        }
        with file.open("rb") as reader:
            return self._exchange("PUT", path, headers, write)

    def _exchange(
        self,
        method: str,
        path: tuple[str, ...],
        headers: dict[str, str] | None = None,
        write: Callable[[http.client.HTTPConnection], None] | None = None,
    ) -> dict[str, Any]:
        target = self._prefix + "".join("/" + quote(part, safe="/") for part in path)
        connection = self._connection()
        try:
            connection.putrequest(method, target)
            for name, value in {**self._authorization(), **(headers or {})}.items():
                connection.putheader(name, value)
            connection.endheaders()
            if write is not None:
                # A server that refuses what it has not read all of says why, and closes.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    write(connection)
            response = connection.getresponse()
            content = response.read(_MAX_ANSWER)
        except TimeoutError:
            raise AdminError(f"{self.url} did not answer within {TIMEOUT_S:.0f} s.") from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise AdminError(f"{self.url} cannot be reached: {reason}.") from None
        finally:
            connection.close()
        return self._answer(response, content)

    def _answer(self, response: http.client.HTTPResponse, content: bytes) -> dict[str, Any]:
        if response.status == 204:
            return {}
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise AdminError(
                f"{self.url} answers {response.status} without JSON; is it a detserve?",
                status=response.status,
            )
        if response.status < 300:
            return value
        error = value.get("error")
        if not isinstance(error, dict) or not isinstance(error.get("message"), str):
            raise AdminError(
                f"{self.url} answers {response.status} {response.reason}.", status=response.status
            )
        details = error.get("details")
        raise AdminError(
            error["message"],
            status=response.status,
            code=str(error.get("code", "")),
            details=details if isinstance(details, dict) else None,
        )

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_S, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}
