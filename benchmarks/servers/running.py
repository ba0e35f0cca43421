"""Starts the servers that are compared, each on the cores that it is given, and asks what they use."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from service.bench.process_usage import ProcessUsage, process_usage

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
START_S = 180.0


@dataclass(frozen=True)
class Program:
    """A server to be started: a script beside this one, or ``detserve`` itself.

    Attributes:
        name: in tables.
        script: the script's name; "" is the command ``detserve serve``.
        arguments: besides the port.
        python: the interpreter, of LitServe's own environment for instance.
    """

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, port: int) -> list[str]:
        start = [str(HERE / self.script)] if self.script else ["-m", "service.cli", "serve"]
        return [self.python, *start, "--port", str(port), *self.arguments]


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    program: Program
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def usage(self) -> ProcessUsage:
        """What it has used, with all processes that it has started."""
        used = process_usage(self.process.pid)
        if used is None:
            raise RuntimeError(f"{self.program.name} has ended with {self.process.poll()}")
        return used


@contextmanager
def running(program: Program, *, cores: set[int], log: Path) -> Iterator[Running]:
    """Start ``program`` on ``cores``, wait until its port is open, and end it with all its children."""
    port = _free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            program.command(port),
            cwd=REPOSITORY,
            stdout=output,
            stderr=output,
            env=os.environ
            | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": str(len(cores))}
            | program.environment,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        try:
            _wait(process, port, program, log)
            yield Running(program, port, process)
        finally:
            _end(process)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], port: int, program: Program, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit(f"{program.name} did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """All of its session: LitServe's workers outlive their parent."""
    for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        if number == signal.SIGTERM:
            time.sleep(0.5)
    process.wait()
