"""A server whose admin answers are written down beforehand, and ``detserve models`` that meets it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from service.cli.main import app


@dataclass
class Request:
    """One that has arrived."""

    call: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeServer:
    """Answers by method and path: a list is answered one after the other, the last again and again."""

    answers: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def on(self, call: str, *answers: tuple[int, Any]) -> None:
        self.answers[call] = list(answers)

    @property
    def calls(self) -> list[str]:
        return [request.call for request in self.requests]


@contextmanager
def answering(fake: FakeServer) -> Iterator[FakeServer]:
    """Have ``fake`` listen."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            call = f"{self.command} {self.path}"
            fake.requests.append(Request(call, dict(self.headers), body))
            missing = {"error": {"code": "unknown_model", "message": "There is none."}}
            waiting = fake.answers.get(call, [(404, missing)])
            status, content = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if status != 204:
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  # names of the base class

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        # The argument is how soon it hears of the shutdown.
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        fake.url = f"http://127.0.0.1:{listening.server_port}"
        try:
            yield fake
        finally:
            listening.shutdown()
            thread.join()


def run(server: FakeServer, *arguments: str | Path) -> tuple[int, str]:
    """Exit code and output of ``detserve models`` with these arguments."""
    command = ["models", *map(str, arguments), "--url", server.url]
    result = CliRunner().invoke(app, command)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output
