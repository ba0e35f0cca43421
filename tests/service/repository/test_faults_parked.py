"""``keep_previous=memory``: a rollback needs no files, and what goes wrong on the way loses no version."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_server import Serve, Served
from reload_faults import answerer, model_of, refused, serve_versions, state_of, swapped

pytestmark = pytest.mark.anyio


async def swapped_once(serve: Serve, root: Path, *labels: str) -> Served:
    """A server on version 2, with version 1 in memory."""
    served = serve_versions(serve, root, "1", "2", *labels, keep_previous="memory")
    await swapped(served, "2")
    assert model_of(served).parked is not None
    return served


def closed(served: Served) -> list[int]:
    return [detector.closed for detector in served.loader.loaded]


async def rollback(served: Served) -> dict[str, Any]:
    response = await served.client.post("/models/shapes/rollback", json={})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_rollback_loads_nothing_and_needs_no_files(serve: Serve, tmp_path: Path) -> None:
    served = await swapped_once(serve, tmp_path)
    shutil.rmtree(tmp_path / "shapes" / "1")
    report = await rollback(served)
    assert (report["outcome"], report["version"]) == ("rolled_back", "1")
    assert served.loader.labels == ["1", "2"]
    assert await answerer(served) == (1, "1")
    assert closed(served) == [0, 0]
    assert model_of(served).shelf.record().current == "1"


async def test_back_and_forth_goes_without_a_load(serve: Serve, tmp_path: Path) -> None:
    served = await swapped_once(serve, tmp_path)
    for _ in range(2):
        assert (await rollback(served))["version"] == "1"
        assert await answerer(served) == (1, "1")
        await swapped(served, "2")
    assert served.loader.labels == ["1", "2"]
    assert closed(served) == [0, 0]


async def test_a_third_version_closes_the_first(serve: Serve, tmp_path: Path) -> None:
    served = await swapped_once(serve, tmp_path, "3")
    await swapped(served, "3")
    assert closed(served) == [1, 0, 0]
    assert (await rollback(served))["version"] == "2"
    assert served.loader.labels == ["1", "2", "3"]


async def test_a_reload_that_is_refused_leaves_the_parked_version(
    serve: Serve, tmp_path: Path
) -> None:
    served = await swapped_once(serve, tmp_path, "3")
    served.loader.error = MemoryError()
    await refused(served, 422, "not_enough_memory", version="3")
    assert (await rollback(served))["version"] == "1"
    assert served.loader.labels == ["1", "2", "3"]


async def test_a_rollback_that_cannot_be_recorded_can_be_tried_again(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await swapped_once(serve, tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        await refused(served, 507, "state_not_written", path="/models/shapes/rollback")
    assert (await state_of(served, "1"))[0] == "available"
    assert (await rollback(served))["version"] == "1"
    assert served.loader.labels == ["1", "2"]
    assert closed(served) == [0, 0]


async def test_a_version_that_cannot_come_back_to_the_device_stays_where_it_is(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", keep_previous="memory")
    moves: list[str] = []
    full = True

    def unpark(call: Any) -> None:
        if full:
            raise MemoryError
        moves.append("unpark")

    first: Any = served.detector
    first.park = lambda: moves.append("park") or 10
    first.unpark = unpark
    report = await swapped(served, "2")
    assert report["freed_bytes"] == 10
    told = await refused(served, 422, "not_enough_memory", path="/models/shapes/rollback")
    assert told["details"]["serving_version"] == "2"
    full = False
    assert (await rollback(served))["version"] == "1"
    assert moves == ["park", "unpark"]


async def test_a_version_that_cannot_be_kept_is_closed_and_the_swap_stands(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", keep_previous="memory")

    def park() -> int:
        raise MemoryError

    first: Any = served.detector
    first.park, first.unpark = park, lambda call: None
    report = await swapped(served, "2")
    assert "could not be kept" in report["warning"]
    assert closed(served) == [1, 0]
    assert model_of(served).parked is None
    assert (await rollback(served))["version"] == "1"  # from its files
    assert served.loader.labels == ["1", "2", "1"]


async def test_to_load_the_parked_version_does_not_make_it_current(
    serve: Serve, tmp_path: Path
) -> None:
    served = await swapped_once(serve, tmp_path)
    response = await served.client.post("/models/shapes/versions/1/load", json={})
    assert (response.status_code, response.json()["outcome"]) == (200, "loaded")
    assert await answerer(served) == (2, "2")
    assert await answerer(served, version="1") == (1, "1")
