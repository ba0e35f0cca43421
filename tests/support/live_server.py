"""A real ``detserve serve`` in a process of its own, for tests that must not trust the in-process app."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STARTUP_S = 120


@dataclass
class LiveServer:
    """Address of the server, and what it wrote to standard error so far."""

    url: str
    process: subprocess.Popen[str]
    lines: list[str]

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextmanager
def live_server(
    *arguments: str | Path, cwd: Path, python: str | Path = sys.executable
) -> Iterator[LiveServer]:
    """Start a server on a free port and stop it at the end; it must come up and exit with 0.

    Args:
        cwd: it runs there.
        python: in whose environment it is installed, if not in that of the tests.
    """
    command = [str(python), "-m", "service.cli", "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    found: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            address = re.search(r"Serving at (http://\S+)", line)
            if address:
                found.append(address.group(1))
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    ready.wait(STARTUP_S)
    server = LiveServer(found[0] if found else "", process, lines)
    try:
        assert found, "the server did not start:\n" + "".join(lines)
        yield server
        assert server.stop() == 0, "".join(lines)
    finally:
        process.kill()
        process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()
