"""Servers on fake detectors, closed behind each test."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_detector import PATIENCE_S, FakeDetector, FakeLoader
from fake_server import Serve, Served


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """``serve(detector, max_queue=1, ...)``: settings by keyword."""
    running: list[Served] = []

    def start(*detectors: FakeDetector, loader: FakeLoader | None = None, **options: Any) -> Served:
        running.append(Served(tmp_path, loader or FakeLoader(*detectors), **options))
        return running[-1]

    yield start
    for served in running:
        served.close()


@pytest.fixture
def come() -> Callable[[threading.Event], Any]:
    """``await come(event)``: wait for an event of another thread; it must come."""

    async def wait(event: threading.Event) -> None:
        assert await asyncio.to_thread(event.wait, PATIENCE_S)

    return wait
