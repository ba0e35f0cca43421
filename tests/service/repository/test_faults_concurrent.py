"""Two reloads at once, a reload while the server drains, and what goes wrong behind the swap itself."""

import asyncio
from pathlib import Path

import pytest
from fake_server import Serve
from reload_faults import (
    amid_traffic,
    answerer,
    model_of,
    refused,
    serve_versions,
    swapped,
    until,
)

from service.repository.jobs import ReloadJob

pytestmark = pytest.mark.anyio


async def test_of_two_reloads_at_once_one_is_done_and_one_refused(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", "3")
    served.loader.go.clear()
    first = asyncio.ensure_future(served.client.post("/reload", json={"version": "2"}))
    await until(lambda: served.loader.labels == ["1", "2"])
    for path, body in (
        ("/reload", {"version": "3"}),
        ("/reload", {"version": "2", "strategy": "in_place"}),
        ("/models/shapes/versions/3/load", {}),
    ):
        response = await amid_traffic(
            served, lambda path=path, body=body: served.client.post(path, json=body)
        )
        assert (response.status_code, response.json()["error"]["code"]) == (409, "reload_running")
    served.loader.go.set()
    assert (await first).json()["version"] == "2"
    assert served.loader.labels == ["1", "2"]
    assert [detector.closed for detector in served.loader.loaded] == [1, 0]
    await swapped(served, "3")


async def test_a_reload_while_the_old_version_drains_is_refused(
    serve: Serve, tmp_path: Path
) -> None:
    """The swap is done by then: what comes is for the new version, what runs ends on the old one."""
    served = serve_versions(serve, tmp_path, "1", "2", "3")
    old = model_of(served).current
    assert old.acquire()  # as a request of which one image is still to come
    first = asyncio.ensure_future(served.client.post("/reload", json={"version": "2"}))
    await until(lambda: old.retired)
    assert await answerer(served) == (2, "2")
    response = await served.client.post("/reload", json={"version": "3"})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "reload_running")
    assert served.loader.loaded[0].closed == 0
    old.release()
    assert (await first).json()["outcome"] == "swapped"
    await swapped(served, "3")


async def test_a_server_that_drains_begins_no_reload_and_answers_what_it_has(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    detector = served.detector
    detector.go.clear()
    running = asyncio.ensure_future(answerer(served))
    await until(detector.held.is_set)
    served.runtime.draining = True
    for path in ("/reload", "/models/shapes/rollback", "/models/shapes/versions/2/load"):
        response = await served.client.post(path, json={})
        assert (response.status_code, response.json()["error"]["code"]) == (503, "draining")
    detector.go.set()
    assert await running == (1, "1")
    assert served.loader.labels == ["1"]


async def test_a_reload_that_had_begun_is_done_while_the_server_drains(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    served.loader.go.clear()
    reload = asyncio.ensure_future(served.client.post("/reload", json={"version": "2"}))
    await until(lambda: served.loader.labels == ["1", "2"])
    served.runtime.draining = True
    served.loader.go.set()
    assert (await reload).json()["outcome"] == "swapped"
    assert model_of(served).shelf.record().current == "2"


async def test_a_reload_that_the_end_of_the_server_overtakes_ends_too(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    served.loader.go.clear()
    reload = asyncio.ensure_future(served.client.post("/reload", json={"version": "2"}))
    await until(lambda: served.loader.labels == ["1", "2"])
    await asyncio.to_thread(served.runtime.close)
    served.loader.go.set()
    response = await reload
    assert (response.status_code, response.json()["error"]["code"]) == (503, "draining")
    assert model_of(served).shelf.record().current == "1"


async def test_the_end_of_the_server_behind_the_swap_does_not_undo_it(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    during = ReloadJob.during

    def closing(job: ReloadJob, phase: str) -> object:
        if phase == "drain":
            served.runtime.scheduler.close()
        return during(job, phase)

    monkeypatch.setattr(ReloadJob, "during", closing)
    response = await served.client.post("/reload", json={"version": "2"})
    assert response.status_code == 200, response.text
    assert response.json()["outcome"] == "swapped"
    assert "shutting down" in response.json()["warning"]
    assert model_of(served).shelf.record().current == "2"


async def test_an_old_version_that_cannot_be_freed_does_not_undo_the_swap(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", "3")

    def stuck() -> int:
        raise RuntimeError("the driver at /dev/secret is stuck")

    served.detector.close = stuck
    report = await swapped(served, "2")
    assert "could not be freed" in report["warning"]
    assert "secret" not in report["warning"]
    await swapped(served, "3")


async def test_a_reload_of_what_is_current_changes_nothing(serve: Serve, tmp_path: Path) -> None:
    served = serve_versions(serve, tmp_path, "1")
    response = await amid_traffic(
        served, lambda: served.client.post("/reload", json={"version": "1"})
    )
    assert (response.status_code, response.json()["outcome"]) == (200, "unchanged")
    assert served.detector.closed == 0
    await refused(served, 404, "unknown_version", version="9")
