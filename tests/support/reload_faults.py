"""Reloads that fail in the midst of traffic, on a repository of fakes: what must hold behind each."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fake_detector import PATIENCE_S, FakeDetector, number_of, picture
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served

from service.repository.served import ServedModel
from service.repository.source import ModelSource


class FaultyLoader(FolderLoader):
    """A loader whose detectors, and whose files, tests spoil.

    Attributes:
        spoil: is given each detector before anybody uses it, by its number.
        before, after: called with the source, around the reading of its files.
        labels: the versions that it was asked for, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[str] = []
        self.spoil: dict[int, Callable[[Any], None]] = {}
        self.before: Callable[[ModelSource], None] = lambda source: None
        self.after: Callable[[ModelSource], None] = lambda source: None

    def __call__(self, source: ModelSource) -> FakeDetector:
        self.labels.append(source.weights.parent.name)
        assert self.go.wait(PATIENCE_S)
        self.before(source)
        detector = super().__call__(source)
        self.spoil.get(detector.number, lambda made: None)(detector)
        self.after(source)
        return detector

    def of(self, number: int) -> list[FakeDetector]:
        """Those with this number, in order."""
        return [detector for detector in self.loaded if detector.number == number]


def serve_versions(
    serve: Serve, root: Path, *labels: str, loader: FaultyLoader | None = None, **options: Any
) -> Served:
    """A server of these versions of ``shapes``, of which the first is current."""
    make_version(root, labels[0])
    served = serve(loader=loader or FaultyLoader(), repository=root, **options)
    for label in labels[1:]:
        make_version(root, label)
    return served


def model_of(served: Served) -> ServedModel:
    return served.runtime.repository.get("shapes")


async def until(holds: Callable[[], object]) -> None:
    """Let others run until it does; it must come."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0)


async def answerer(served: Served, mark: int = 7, **query: str) -> tuple[int, str]:
    """The number of the detector that answers a request, and the version that the answer names."""
    files = {"images": ("a.png", picture(mark))}
    response = await served.client.post("/predict", files=files, params=query)
    assert response.status_code == 200, response.text
    answer = response.json()
    return number_of(answer["predictions"][0]), answer["model"]["version"]


async def state_of(served: Served, version: str) -> tuple[str, str]:
    """State and reason of a version, as the server tells."""
    answer = (await served.client.get(f"/models/shapes/versions/{version}")).json()
    return answer["state"], answer["reason"] or ""


async def amid_traffic(served: Served, act: Callable[[], Awaitable[Any]]) -> Any:
    """What ``act`` answers while one request runs and another waits; it must leave the current version.

    These two, one before and one after are answered by that version.
    """
    current = model_of(served).current
    detector: Any = current.detector
    expected = (detector.number, current.label)
    assert await answerer(served) == expected
    detector.held.clear()
    detector.go.clear()
    running = asyncio.ensure_future(answerer(served))
    await until(detector.held.is_set)
    waiting = asyncio.ensure_future(answerer(served))
    await until(lambda: served.runtime.scheduler.waiting == 1)
    acting = asyncio.ensure_future(act())
    # Until it is through, or cannot go on without the model's thread.
    await until(lambda: acting.done() or served.runtime.scheduler._calls)
    detector.go.set()
    done = await acting
    assert await asyncio.gather(running, waiting) == [expected] * 2
    assert await answerer(served) == expected
    return done


async def refused(
    served: Served, status: int, code: str, *, path: str = "/reload", **body: Any
) -> dict[str, Any]:
    """The error of a change that is refused amid traffic; all else must be as it was before."""
    model = model_of(served)
    current, versions, record = model.current, dict(model.versions), model.shelf.record()
    kept = [version.detector for version in versions.values()]
    kept += [model.parked.detector] if model.parked else []
    response = await amid_traffic(served, lambda: served.client.post(path, json=body))
    error: dict[str, Any] = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code), response.text
    assert (model.current, dict(model.versions)) == (current, versions)
    assert model.shelf.record() == record
    assert not model.changing.locked()
    assert [version.leases for version in versions.values()] == [0] * len(versions)
    await asyncio.to_thread(
        served.runtime.scheduler.call(lambda: None).result
    )  # what closes is closed
    loaded: list[FakeDetector] = served.loader.loaded
    assert [detector.closed for detector in loaded] == [int(d not in kept) for d in loaded]
    return error


async def swapped(served: Served, version: str, **body: Any) -> dict[str, Any]:
    """The report of a reload that works."""
    response = await served.client.post("/reload", json={"version": version, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert (answer["version"], answer["error"]) == (version, None)
    assert await answerer(served) == (int(version), version)
    assert (await state_of(served, version))[0] == "ready"
    return answer
