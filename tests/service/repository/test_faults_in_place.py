"""One version after the other: requests wait for the new one, and get the old one when that is no good."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_detector import PATIENCE_S, FakeDetector, picture
from fake_server import Serve, Served
from reload_faults import (
    amid_traffic,
    answerer,
    model_of,
    refused,
    serve_versions,
    state_of,
    swapped,
    until,
)

from service.repository import retiring

pytestmark = pytest.mark.anyio

WAITING = 3


async def reload_in_place(served: Served, version: str = "2", **body: Any) -> Any:
    """The answer to a reload in place, and to the requests that came while no version was loaded."""
    loader, begun = served.loader, len(served.loader.labels)
    loader.go.clear()
    body |= {"version": version, "strategy": "in_place"}
    reload = asyncio.ensure_future(served.client.post("/reload", json=body))
    await until(lambda: len(loader.labels) > begun or reload.done())
    assert not reload.done(), (await reload).text
    files = {"images": ("a.png", picture(7))}
    requests = [
        asyncio.ensure_future(served.client.post("/predict", files=files)) for _ in range(WAITING)
    ]
    await until(lambda: served.runtime.scheduler.waiting == WAITING)
    assert not any(request.done() for request in requests)
    loader.go.set()
    return await reload, await asyncio.gather(*requests)


def answered_by(responses: list[Any]) -> set[str]:
    assert [response.status_code for response in responses] == [200] * len(responses)
    return {response.json()["model"]["version"] for response in responses}


def garbage(served: Served, version: str) -> None:
    """Let its weights be what nothing can read, without anybody's knowledge."""
    served.loader.before = lambda source: (
        _write(source.weights, b"?") if source.weights.parent.name == version else None
    )


def _write(weights: Path, content: bytes) -> None:
    weights.write_bytes(content)


async def test_requests_wait_for_the_new_version_and_none_is_lost(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    first = served.detector
    seen: list[int] = []
    served.loader.before = lambda source: seen.append(first.closed)
    response, answers = await reload_in_place(served)
    assert response.status_code == 200, response.text
    assert (response.json()["outcome"], response.json()["freed_bytes"]) == ("swapped", 1001)
    assert answered_by(answers) == {"2"}
    assert seen == [1], "the old one is to go before the new one is loaded"
    assert [detector.closed for detector in served.loader.loaded] == [1, 0]
    assert served.runtime.scheduler.depth == 0


async def test_what_runs_on_the_old_version_ends_there_first(serve: Serve, tmp_path: Path) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    first = served.detector
    first.go.clear()
    running = asyncio.ensure_future(answerer(served))
    await until(first.held.is_set)
    body = {"version": "2", "strategy": "in_place"}
    reload = asyncio.ensure_future(served.client.post("/reload", json=body))
    await until(lambda: served.runtime.scheduler._calls)
    assert (first.closed, served.loader.labels) == (0, ["1"])
    first.go.set()
    assert await running == (1, "1")
    assert (await reload).status_code == 200
    assert first.closed == 1


def _broken(detector: FakeDetector) -> None:
    detector.fail_on = set(range(256))


async def test_the_old_version_comes_back_when_the_new_one_fails_its_check(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", "3")
    served.loader.spoil[2] = _broken
    response, answers = await reload_in_place(served)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (422, "model_refused")
    assert error["details"]["serving_version"] == "1"
    assert answered_by(answers) == {"1"}
    assert served.loader.labels == ["1", "2", "1"]
    assert [detector.closed for detector in served.loader.loaded] == [1, 1, 0]
    assert (await state_of(served, "1"))[0] == "ready"
    assert await state_of(served, "2") == ("failed", error["message"])
    assert model_of(served).shelf.record().current == "1"
    assert served.metric("model_current", model="shapes", version="1") == 1
    await swapped(served, "3")


async def test_the_old_version_comes_back_when_the_new_one_cannot_be_read(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", "3")
    garbage(served, "2")
    response, answers = await reload_in_place(served)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "model_refused")
    assert answered_by(answers) == {"1"}
    await swapped(served, "3", strategy="in_place")


async def test_the_old_version_comes_back_when_the_new_one_cannot_be_recorded(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        response, answers = await reload_in_place(served)
    assert (response.status_code, response.json()["error"]["code"]) == (507, "state_not_written")
    assert answered_by(answers) == {"1"}
    assert [detector.closed for detector in served.loader.loaded] == [1, 1, 0]
    assert model_of(served).shelf.record().current == "1"
    assert await answerer(served) == (1, "1")
    await swapped(served, "2", strategy="in_place")


@pytest.mark.parametrize(
    ("damage", "code"),
    [(Path.unlink, "file_missing"), (lambda path: _write(path, b"9"), "file_changed")],
)
async def test_files_that_are_damaged_are_found_before_the_old_version_goes(
    serve: Serve, tmp_path: Path, damage: Callable[[Path], None], code: str
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", "3")
    damage(tmp_path / "shapes" / "2" / "model_final.pth")
    await refused(served, 422, code, version="2", strategy="in_place")
    assert (await state_of(served, "2"))[0] in ("failed", "incomplete")
    assert served.loader.labels == ["1"]
    await swapped(served, "3", strategy="in_place")


async def test_a_dry_run_leaves_the_current_version_alone(serve: Serve, tmp_path: Path) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    first, body = served.detector, {"version": "2", "strategy": "in_place", "dry_run": True}
    response = await amid_traffic(served, lambda: served.client.post("/reload", json=body))
    assert (response.status_code, response.json()["outcome"]) == (200, "dry_run")
    assert (first.closed, served.detector.closed) == (0, 1)
    assert model_of(served).shelf.record().current == "1"


async def test_an_old_version_that_does_not_end_its_requests_goes_on(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retiring, "DRAIN_TIMEOUT_S", 0.01)
    served = serve_versions(serve, tmp_path, "1", "2")
    current = model_of(served).current
    assert current.acquire()  # as a request that takes its time
    body = {"version": "2", "strategy": "in_place"}
    response = await served.client.post("/reload", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "drain_timeout")
    assert model_of(served).current is current
    assert await answerer(served) == (1, "1")
    assert (await state_of(served, "1"))[0] == "ready"
    assert served.metric("model_ready", model="shapes", version="1") == 1
    current.release()
    await swapped(served, "2", strategy="in_place")


async def test_a_detector_that_cannot_be_closed_costs_no_request(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")

    def stuck() -> int:
        raise RuntimeError("the driver is stuck")

    served.detector.close = stuck
    files = {"images": ("a.png", picture(7))}
    body = {"version": "2", "strategy": "in_place"}
    response = await served.client.post("/reload", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "model_refused")
    answer = await served.client.post("/predict", files=files)
    assert answered_by([answer]) == {"1"}
    await swapped(served, "2", strategy="in_place")


# --- when the old one cannot come back ------------------------------------------------------------


async def lose(served: Served) -> Any:
    """Answers to a reload in place of version 2 that fails, with version 1 gone for good; and to the
    requests that waited."""

    def ruin(source: Any) -> None:
        if source.weights.parent.name == "2":
            _write(source.weights, b"?")
            _write(source.weights.parents[1] / "1" / "model_final.pth", b"?")

    served.loader.before = ruin
    lost = await reload_in_place(served)
    served.loader.before = lambda source: None
    return lost


async def test_without_a_way_back_requests_are_503_at_once(serve: Serve, tmp_path: Path) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    response, answers = await lose(served)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (503, "model_unavailable")
    assert error["details"]["serving_version"] is None
    assert error["details"]["refused"]["code"] == "model_refused"
    assert error["details"]["not_restored"]["code"] == "model_refused"
    files = {"images": ("a.png", picture(7))}
    async with asyncio.timeout(PATIENCE_S):
        answers.append(await served.client.post("/predict", files=files))
    codes = {(a.status_code, a.json()["error"]["code"]) for a in answers}
    assert codes == {(503, "model_unavailable")}
    assert [detector.closed for detector in served.loader.loaded] == [1]
    assert served.runtime.scheduler.depth == 0


async def test_without_a_version_the_server_is_not_ready_and_tells_why(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    await lose(served)
    ready = await served.client.get("/readyz")
    assert ready.status_code == 503
    assert "swap in place has failed" in ready.text
    assert (await served.client.get("/models/shapes")).json()["state"] == "unavailable"
    for version in "12":
        state, reason = await state_of(served, version)
        assert state == "failed"
        assert "is no checkpoint" in reason


@pytest.mark.parametrize("strategy", ["side_by_side", "in_place"])
async def test_a_later_reload_brings_the_model_back(
    serve: Serve, tmp_path: Path, strategy: str
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", "3")
    await lose(served)
    await swapped(served, "3", strategy=strategy)
    assert (await served.client.get("/readyz")).status_code == 200
    assert [detector.closed for detector in served.loader.loaded] == [1, 0]
    assert served.metric("model_current", model="shapes", version="3") == 1


async def test_the_same_version_brings_the_model_back_once_its_files_are_whole(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    await lose(served)
    _write(tmp_path / "shapes" / "1" / "model_final.pth", b"1")
    await swapped(served, "1")
    assert (await served.client.get("/readyz")).status_code == 200


async def test_what_comes_back_is_what_went_or_nothing(serve: Serve, tmp_path: Path) -> None:
    """Other weights that lie where the old ones were are not served under its name."""
    served = serve_versions(serve, tmp_path, "1", "2")
    served.loader.spoil[2] = _broken

    def replace(source: Any) -> None:
        _write(tmp_path / "shapes" / "1" / "model_final.pth", b"9")

    served.loader.before = replace
    response, answers = await reload_in_place(served)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (503, "model_unavailable")
    assert error["details"]["not_restored"]["code"] == "file_changed"
    assert {answer.status_code for answer in answers} == {503}
    await asyncio.to_thread(served.runtime.scheduler.call(lambda: None).result)
    assert [detector.closed for detector in served.loader.loaded] == [1, 1, 1]
