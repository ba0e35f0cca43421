"""serve in a process of its own: start, drain, and every way to stop."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from service.server import serve
from service.server.runner import FAILED_EXIT_CODE

ROOT = Path(__file__).parents[3]
SCRIPT = """
import asyncio, logging, sys, time
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from service.server import runner

logging.basicConfig(level="INFO")
ready, failure = True, None

def drain():
    global ready
    ready = False
    print("drain", flush=True)

async def sleep(request):
    print("begun", flush=True)
    await asyncio.sleep(float(request.path_params["seconds"]))
    return PlainTextResponse("slept")

def block(request):
    print("begun", flush=True)
    time.sleep(60)

async def block_loop(request):
    block(request)

def fail(request):
    global failure
    failure = "the device failed"
    return PlainTextResponse("failed")

app = Starlette()
app.add_route("/fail", fail)
app.add_route("/sleep/{seconds}", sleep)
app.add_route("/block-thread", block)
app.add_route("/block-loop", block_loop)
app.add_route("/readyz", lambda request: PlainTextResponse("", 200 if ready else 503))
runner._EXIT_GRACE_S = 0.5
runner._CANCEL_GRACE_S = 0.5
runner._FAILED_DRAIN_S = 2.0
sys.exit(runner.serve(
    app, port=0, on_drain=drain, failure=lambda: failure,
    ready_banner=lambda url: print(url, flush=True), OPTIONS
))
"""


class Served:
    """A running server process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = self.line()

    def line(self) -> str:
        """The next line that the process prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def request(self, path: str) -> socket.socket:
        """Send a request, and return when its handler has begun."""
        host, port = self.url.removeprefix("http://").split(":")
        sock = socket.create_connection((host, int(port)), timeout=20)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        assert self.line() == "begun"
        return sock

    def exit_code(self) -> int:
        return self.process.wait(20)

    def log(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()


@contextmanager
def served(options: str) -> Iterator[Served]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.replace("OPTIONS", options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        yield Served(process)
    finally:
        process.kill()
        process.communicate()


def read_all(sock: socket.socket) -> str:
    """All that the server still says on ``sock``."""
    with sock:
        return b"".join(iter(lambda: sock.recv(65536), b"")).decode()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_request_in_flight_is_answered_before_the_process_exits_0(sig: signal.Signals) -> None:
    with served("drain_delay_s=0") as server:
        sock = server.request("/sleep/0.6")
        server.process.send_signal(sig)
        assert server.line() == "drain"
        answer = read_all(sock)
        assert answer.startswith("HTTP/1.1 200")
        assert answer.endswith("slept")
        assert server.exit_code() == 0
        assert "Traceback" not in server.log()


def test_server_is_unready_but_accepts_during_the_drain_delay() -> None:
    with served("drain_delay_s=1.0") as server:
        assert httpx.get(server.url + "/readyz").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.line() == "drain"
        assert httpx.get(server.url + "/readyz").status_code == 503
        response = httpx.get(server.url + "/sleep/0")
        assert response.status_code == 200
        assert response.headers["connection"] == "close"
        assert server.exit_code() == 0


def test_sigint_skips_the_drain_delay() -> None:
    with served("drain_delay_s=60") as server:
        server.process.send_signal(signal.SIGINT)
        assert server.exit_code() == 0


def test_request_over_the_drain_timeout_gets_503_and_the_process_exits_0() -> None:
    with served("drain_delay_s=0, drain_timeout_s=0.2") as server:
        sock = server.request("/sleep/60")
        server.process.send_signal(signal.SIGTERM)
        answer = read_all(sock)
        assert answer.startswith("HTTP/1.1 503")
        assert '"code":"shutting_down"' in answer
        assert "connection: close" in answer
        assert server.exit_code() == 0
        assert "Traceback" not in server.log()


def test_second_signal_ends_the_drain_at_once() -> None:
    with served("drain_delay_s=60, drain_timeout_s=60") as server:
        sock = server.request("/sleep/60")
        server.process.send_signal(signal.SIGTERM)
        assert server.line() == "drain"
        server.process.send_signal(signal.SIGTERM)
        assert read_all(sock).startswith("HTTP/1.1 503")
        assert server.exit_code() == 0


@pytest.mark.parametrize(("path", "exit_code"), [("/block-thread", 0), ("/block-loop", 1)])
def test_handler_that_hangs_does_not_hold_the_process(path: str, exit_code: int) -> None:
    with served("drain_delay_s=0, drain_timeout_s=0.1") as server:
        with server.request(path):
            server.process.send_signal(signal.SIGTERM)
            assert server.exit_code() == exit_code
        assert "did not stop in time" in server.log()


def test_an_app_that_fails_is_ended_with_its_code_and_what_is_in_flight_is_answered() -> None:
    with served("drain_delay_s=60, drain_timeout_s=60") as server:
        sock = server.request("/sleep/0.6")
        assert httpx.get(server.url + "/fail").text == "failed"
        assert server.line() == "drain"
        answer = read_all(sock)
        assert answer.startswith("HTTP/1.1 200")
        assert answer.endswith("slept")
        assert server.exit_code() == FAILED_EXIT_CODE
        assert "Stopping with exit code 70: the device failed" in server.log()


def test_an_app_that_fails_does_not_wait_for_slow_requests() -> None:
    with served("drain_delay_s=60, drain_timeout_s=60") as server:
        sock = server.request("/sleep/60")
        httpx.get(server.url + "/fail")
        assert read_all(sock).startswith("HTTP/1.1 503")
        assert server.exit_code() == FAILED_EXIT_CODE


def test_an_app_that_fails_in_its_drain_is_ended_with_its_code() -> None:
    with served("drain_delay_s=60") as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.line() == "drain"
        httpx.get(server.url + "/fail")
        assert server.exit_code() == FAILED_EXIT_CODE


def test_a_thread_that_hangs_does_not_hold_an_app_that_has_failed() -> None:
    with served("drain_timeout_s=0.1") as server, server.request("/block-thread"):
        httpx.get(server.url + "/fail")
        assert server.exit_code() == FAILED_EXIT_CODE


def test_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "detserve.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with served(f"uds={str(path)!r}") as server:
        assert server.url == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o660
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            assert client.get("http://test/readyz").status_code == 200
        server.process.send_signal(signal.SIGINT)
        assert server.exit_code() == 0
    assert not path.exists()


def test_port_in_use_is_one_sentence_and_exit_code_1(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve(Starlette(), port=port) == 1
    assert caplog.messages == [
        f"Port {port} on 127.0.0.1 is in use; stop what uses it or choose another port."
    ]


def test_host_of_another_machine_is_one_sentence_and_exit_code_1(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert serve(Starlette(), host="192.0.2.1", port=0) == 1
    assert caplog.messages[0].startswith("Cannot listen on 192.0.2.1, port 0: ")


def test_socket_of_another_server_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert serve(Starlette(), uds=str(path)) == 1
    assert "in use by another server" in caplog.messages[0]
    assert path.exists()


def test_app_that_fails_to_start_is_exit_code_1() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no model"})

    began = time.monotonic()
    assert serve(app, port=0) == 1
    assert time.monotonic() - began < 10
