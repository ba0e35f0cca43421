"""A server of our own to measure: ``detserve serve`` in a process of its own."""

from __future__ import annotations

import collections
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from service.bench.errors import BenchError

START_S = 600.0
"""Longest wait for the model: a large one is loaded, checked and warmed up first."""
STOP_S = 45.0
_KEPT_LINES = 40
_ADDRESS = re.compile(r"Serving at (http://\S+)")


@dataclass(frozen=True)
class OwnServer:
    """A running server of ours."""

    url: str
    pid: int


@contextmanager
def own_server(arguments: Sequence[str]) -> Iterator[OwnServer]:
    """Run ``detserve serve`` with ``arguments`` on a free port, and end it at the end.

    Raises:
        BenchError: it did not come up; the text has its own reason.
    """
    command = [sys.executable, "-m", "service.cli", "serve"]
    # A log line per request would be read by this process, at the client's cost.
    command += ["--host", "127.0.0.1", "--port", "0", "--log-level", "warning", *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # A Ctrl-C at the terminal is for the benchmark, which ends the server when it is done.
        start_new_session=True,
    )
    said = _Said(process)
    try:
        url = said.address(START_S)
        if url is None:
            raise BenchError(f"The server did not start. {said.last()}")
        yield OwnServer(url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        said.close()


class _Said:
    """What the server says on standard error, read all the time, lest it blocks on a full pipe."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self._address: str | None = None
        self._known = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True, name="server-log")
        self._reader.start()

    def address(self, seconds: float) -> str | None:
        """Where it serves, once it does; None if it ended or ``seconds`` were not enough."""
        self._known.wait(seconds)
        return self._address

    def last(self) -> str:
        """The last that it said, as one line."""
        said = " ".join(" ".join(self._lines).split())
        return said.removeprefix("error: ") or "It said nothing."

    def close(self) -> None:
        """Read to the end."""
        self._reader.join()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line)
            found = _ADDRESS.search(line)
            if found and self._address is None:
                self._address = found.group(1)
                self._known.set()
        self._known.set()
