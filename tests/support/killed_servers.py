"""Servers on repositories of fakes that die of SIGKILL at a given point; each in a process of its own.

Run as a program, with the repositories' folders, whose names are points of :data:`POINTS`: importing
costs seconds, so one process imports everything and forks a server for each folder. It must not have
begun any thread by then. It prints a line for each: the point, and the signal that ended the server.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_detector import picture
from fake_server import Served
from reload_faults import FaultyLoader

from service.repository.disk import atomic_file, traffic_file
from service.repository.jobs import ReloadJob

PHASES = ("preflight", "load", "check", "gate", "warm_up", "swap", "drain")


@dataclass(frozen=True)
class Point:
    """When a server dies.

    Attributes:
        arm: makes the server deadly; called when it has answered a request.
        current: what must be current after the restart.
        path, body: of the request in the midst of which it dies.
    """

    arm: Callable[[], None]
    current: str
    path: str = "/reload"
    body: dict[str, Any] = field(default_factory=lambda: {"version": "2"})


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_phase(phase: str, *, end: bool = False) -> Callable[[], None]:
    """As the job enters a phase, or as it leaves it."""
    real = ReloadJob.during

    def arm() -> None:
        @contextmanager
        def during(job: ReloadJob, entered: str) -> Any:
            if entered == phase and not end:
                die()
            with real(job, entered):
                yield
            if entered == phase:
                die()

        during_phase: Callable[[ReloadJob, str], AbstractContextManager[None]] = during
        ReloadJob.during = during_phase  # type: ignore[method-assign]  # deadly

    return arm


def at_call(name: str, number: int, *, after: bool = False) -> Callable[[], None]:
    """Before or after the nth call of a function of ``os``, from the swap on."""

    def arm() -> None:
        real, calls = getattr(os, name), 0

        def deadly(*arguments: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number and not after:
                die()
            result = real(*arguments, **more)
            if calls == number:
                die()
            return result

        during = ReloadJob.during

        def armed(job: ReloadJob, phase: str) -> Any:
            if phase == "swap":
                setattr(os, name, deadly)
            return during(job, phase)

        ReloadJob.during = armed  # type: ignore[method-assign]  # deadly

    return arm


def in_half_a_write() -> None:
    """With half of the record in the hidden file."""
    real = atomic_file.os.fdopen

    class Half:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *ended: object) -> None:
            self._file.close()

        def write(self, content: bytes) -> None:
            self._file.write(content[: len(content) // 2])
            self._file.flush()
            die()

    def halved(handle: int, mode: str) -> Any:
        return Half(real(handle, mode)) if mode == "wb" else real(handle, mode)

    os.fdopen = halved  # type: ignore[assignment]  # deadly


def in_traffic_file() -> None:
    """As the shapes of traffic are written, behind the swap."""

    def write(path: Path, content: bytes) -> None:
        path.with_name(f".{path.name}.new").write_bytes(content[:3])
        die()

    traffic_file.write_atomically = write


IN_PLACE = {"version": "2", "strategy": "in_place"}
GATED = {"version": "2", "gate": {"dataset": "set.json", "max_drop": 1}}

POINTS: dict[str, Point] = {
    **{
        f"{phase}-begins": Point(
            in_phase(phase),
            "2" if phase == "drain" else "1",
            body=GATED if phase == "gate" else {"version": "2"},
        )
        for phase in PHASES
    },
    "load-ends": Point(in_phase("load", end=True), "1"),
    "warm_up-ends": Point(in_phase("warm_up", end=True), "1"),
    "record-half-written": Point(in_half_a_write, "1"),
    "record-before-fsync": Point(at_call("fsync", 1), "1"),
    "record-before-rename": Point(at_call("replace", 1), "1"),
    "record-after-rename": Point(at_call("replace", 1, after=True), "2"),
    "record-before-folder-fsync": Point(at_call("fsync", 2), "2"),
    "swap-ends": Point(in_phase("swap", end=True), "2"),
    "drain-ends": Point(in_phase("drain", end=True), "2"),
    "traffic-half-written": Point(in_traffic_file, "2"),
    "in_place-drain-ends": Point(in_phase("drain", end=True), "1", body=IN_PLACE),
    "in_place-load-ends": Point(in_phase("load", end=True), "1", body=IN_PLACE),
    "in_place-swap-ends": Point(in_phase("swap", end=True), "2", body=IN_PLACE),
    "rollback-before-rename": Point(
        at_call("replace", 1), "1", path="/models/shapes/rollback", body={}
    ),
    "rollback-after-rename": Point(
        at_call("replace", 1, after=True), "0", path="/models/shapes/rollback", body={}
    ),
    "alias-before-rename": Point(
        lambda: at_call_now("replace"), "1", path="/models/shapes/aliases/stable"
    ),
}


def at_call_now(name: str) -> None:
    """At the next call of a function of ``os``."""
    setattr(os, name, lambda *arguments, **more: die())


async def live(point: Point, root: Path) -> None:
    served = Served(root, FaultyLoader(), repository=root)
    files = {"images": ("a.png", picture(7))}
    answer = await served.client.post("/predict", files=files)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"]["version"] == "1"
    point.arm()
    method = "PUT" if "/aliases/" in point.path else "POST"
    response = await served.client.request(method, point.path, json=point.body)
    raise AssertionError(f"it has survived: {response.text}")


def main(folders: list[str]) -> None:
    for folder in folders:
        root = Path(folder)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(live(POINTS[root.name], root))
            except BaseException:  # whatever it is, this process must not go on as its parent
                traceback.print_exc()
            os._exit(1)
        _, status = os.waitpid(child, 0)
        print(root.name, os.WTERMSIG(status))  # noqa: T201  # what it is for


if __name__ == "__main__":
    main(sys.argv[1:])
