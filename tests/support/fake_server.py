"""A whole server on fake detectors, without a socket."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from fake_detector import FakeDetector, FakeLoader
from fastapi import FastAPI

from service.app import create_app
from service.runtime import Runtime
from service.settings import Settings


class Served:
    """One app, its parts, and a client of it on the same machine."""

    def __init__(
        self, root: Path, loader: FakeLoader, *, load: bool = True, **options: Any
    ) -> None:
        given: dict[str, Any] = {"device": "cpu", "threads": 2}
        if "repository" not in options:
            for name in ("config.yaml", "model_final.pth"):
                (root / name).write_text("made up")
            files = {"config": root / "config.yaml", "weights": root / "model_final.pth"}
            given |= {"name": "shapes"} | files
        given |= options
        self.root = root
        self.loader = loader
        self.runtime = Runtime(Settings(_env_file=None, **given), load=loader)
        if load:
            self.runtime.load()
            for detector in loader.loaded:
                detector.forget()  # the self-check
        self.app: FastAPI = create_app(self.runtime)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://localhost"
        )

    @property
    def detector(self) -> FakeDetector:
        """The one that was loaded last."""
        return self.loader.loaded[-1]

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of a series, None if there is none."""
        return self.runtime.metrics.registry.get_sample_value(f"detserve_{name}", labels)

    def close(self) -> None:
        for detector in self.loader.loaded:
            detector.go.set()
        self.runtime.close()


Serve = Callable[..., Served]
