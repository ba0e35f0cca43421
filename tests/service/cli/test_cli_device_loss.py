"""``detserve serve`` whose device is lost: it says so, answers what it has, and ends for its supervisor."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
from fake_detector import picture

from service.server.runner import FAILED_EXIT_CODE

ROOT = Path(__file__).parents[3]
LOST = 66
SCRIPT = f"""
import sys
import torch
from fake_detector import FakeDetector, mark_of
from service.cli import serve
from service.runtime import Runtime

class Losing(FakeDetector):
    def infer(self, batch, pause=None):
        if {LOST} in map(mark_of, batch):
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")
        return super().infer(batch)

serve.Runtime = lambda settings: Runtime(settings, load=lambda source: Losing())
sys.exit(serve.run(["--port", "0", "--device", "cpu", "--drain-delay-s", "60"]))
"""


def test_a_lost_device_ends_the_process_with_its_code(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
    )
    lines: list[str] = []
    try:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"Serving at (http://[\w.:]+)", line):
                break
        assert found, "".join(lines)
        url = found.group(1)
        files = {"images": ("a.png", picture(1))}
        assert httpx.post(f"{url}/predict", files=files).status_code == 200
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as sock:
            body = picture(2)
            sock.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            assert sock.recv(1000).startswith(b"HTTP/1.1 100")  # the app waits for the body
            lost = httpx.post(f"{url}/predict", files={"images": ("a.png", picture(LOST))})
            assert lost.status_code == 503
            error = lost.json()["error"]
            assert error["code"] == "server_failed"
            assert "device-side assert triggered" in error["message"]
            sock.sendall(body)
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"server_failed" in answer
        assert process.wait(20) == FAILED_EXIT_CODE
        log = process.stderr.read()
        assert "Nothing can run any more: the device failed (CUDA error: device-side" in log
        assert f"Stopping with exit code {FAILED_EXIT_CODE}" in log
    finally:
        process.kill()
        process.communicate()
