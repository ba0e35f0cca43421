"""Answers held against their documented schemas, and what a test of a repository behind HTTP asks often."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from fake_detector import PATIENCE_S, FakeDetector, number_of, picture
from fake_server import Served

from service.repository.disk.folder import RepositoryFolder
from service.repository.disk.record import ModelRecord
from service.schemas.answers import ErrorAnswer, ModelAnswer, VersionAnswer
from service.schemas.reload import ReloadAnswer


def job_of(response: httpx.Response, status: int = 200) -> ReloadAnswer:
    """A reload, a rollback or a load that went well."""
    assert response.status_code == status, response.text
    return ReloadAnswer.model_validate(response.json())


def error_of(response: httpx.Response, status: int) -> Any:
    """The error of a refusal."""
    assert response.status_code == status, response.text
    return ErrorAnswer.model_validate(response.json()).error


async def model_at(served: Served, name: str = "shapes") -> ModelAnswer:
    """``GET /models/{name}``."""
    response = await served.client.get(f"/models/{name}")
    assert response.status_code == 200, response.text
    return ModelAnswer.model_validate(response.json())


async def version_at(served: Served, label: str, name: str = "shapes") -> VersionAnswer:
    """``GET /models/{name}/versions/{label}``."""
    response = await served.client.get(f"/models/{name}/versions/{label}")
    assert response.status_code == 200, response.text
    return VersionAnswer.model_validate(response.json())


async def post(served: Served, path: str, **body: Any) -> httpx.Response:
    """POST of a JSON body."""
    return await served.client.post(path, json=body)


async def predict(served: Served, mark: int = 1, **options: Any) -> httpx.Response:
    """One picture."""
    files = {"images": (f"{mark}.png", picture(mark))}
    return await served.client.post("/predict", files=files, params=options)


def answered_by(response: httpx.Response) -> tuple[str, int]:
    """The version that an answer names, and the number of the detector that its boxes tell."""
    assert response.status_code == 200, response.text
    numbers = {number_of(prediction) for prediction in response.json()["predictions"]}
    assert len(numbers) == 1
    return response.json()["model"]["version"], numbers.pop()


def record_at(root: Path, name: str = "shapes") -> ModelRecord:
    """What is recorded on disk."""
    return RepositoryFolder(root).model(name).record()


def detector_of(served: Served, number: int) -> FakeDetector:
    """The last detector with this number that was loaded."""
    return next(d for d in reversed(served.loader.loaded) if d.number == number)


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what another thread does; it must come."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)
