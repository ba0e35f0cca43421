"""No memory for two versions: the reload is refused with advice, the advice works, nothing is leaked."""

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_server import Serve, Served
from reload_faults import FaultyLoader, model_of, refused, serve_versions, state_of, swapped

from service.repository.free_memory import FreeMemory
from service.repository.preflight import WORKING_BYTES

pytestmark = pytest.mark.anyio

WEIGHTS = 1 << 20
"""Bytes of the current version, as it says."""


def out_of_cuda_memory() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def set_free_memory(served: Served, free: FreeMemory) -> None:
    house: Any = served.runtime.repository._house
    served.runtime.repository._house = dataclasses.replace(house, free_memory=lambda device: free)


@pytest.mark.parametrize("error", [MemoryError, out_of_cuda_memory])
async def test_a_load_that_runs_out_of_memory(
    serve: Serve, tmp_path: Path, error: Callable[[], Exception]
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    served.loader.error = error()
    told = await refused(served, 422, "not_enough_memory", version="2")
    assert told["details"]["advice"] == "in_place"
    assert await state_of(served, "2") == ("failed", told["message"])
    served.loader.error = None
    await swapped(served, "2", strategy="in_place")


async def test_a_test_picture_that_runs_out_of_memory(serve: Serve, tmp_path: Path) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")

    def crowded(detector: Any) -> None:
        detector.fits = 0

    served.loader.spoil[2] = crowded
    told = await refused(served, 422, "not_enough_memory", version="2")
    assert told["details"]["advice"] == "in_place"
    served.loader.spoil.clear()
    await swapped(served, "2", strategy="in_place")


async def test_too_little_free_memory_is_found_before_anything_is_loaded(
    serve: Serve, tmp_path: Path
) -> None:
    """There is room for one version of these weights, not for two."""
    served = serve_versions(serve, tmp_path, "1", "2")
    set_free_memory(served, FreeMemory(host=WORKING_BYTES - WEIGHTS // 2, device=None))
    detector: Any = served.detector
    detector.nbytes = WEIGHTS
    told = await refused(served, 422, "not_enough_memory", version="2")
    assert told["details"]["advice"] == "in_place"
    assert "strategy=in_place" in told["message"]
    assert (await state_of(served, "2"))[0] == "failed"
    assert served.loader.labels == ["1"]
    # A dry run leaves the current version alone, so it finds no room either.
    await refused(served, 422, "not_enough_memory", version="2", strategy="in_place", dry_run=True)
    await swapped(served, "2", strategy="in_place")


async def test_without_memory_even_for_one_the_current_version_is_not_given_up(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    set_free_memory(served, FreeMemory(host=WEIGHTS, device=None))
    for strategy in ("side_by_side", "in_place"):
        told = await refused(served, 422, "not_enough_memory", version="2", strategy=strategy)
        assert told["details"]["advice"] == "more_memory"
    assert served.loader.labels == ["1"]


async def test_out_of_memory_in_place_brings_the_old_version_back(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2", "3")

    def run_out(source: Any) -> None:
        if source.weights.parent.name == "2":
            raise MemoryError

    served.loader.before = run_out
    body = {"version": "2", "strategy": "in_place"}
    response = await served.client.post("/reload", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "not_enough_memory")
    assert served.loader.labels == ["1", "2", "1"]
    assert model_of(served).current.label == "1"
    await swapped(served, "3")


async def test_a_system_that_starts_no_thread_leaves_the_model_free_to_change(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve_versions(serve, tmp_path, "1", "2")
    start = threading.Thread.start

    def none_left(thread: threading.Thread) -> None:
        if thread.name == "reload":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as system:
        system.setattr(threading.Thread, "start", none_left)
        await refused(served, 500, "internal_error", version="2")
    await swapped(served, "2")


async def test_memory_that_runs_out_at_the_start_is_told_as_such(
    serve: Serve, tmp_path: Path
) -> None:
    """The current version does not fit any more, the previous one does."""
    served = serve_versions(serve, tmp_path, "1", "2")
    await swapped(served, "2")
    served.close()

    def run_out(source: Any) -> None:
        if source.weights.parent.name == "2":
            raise MemoryError

    loader = FaultyLoader()
    loader.before = run_out
    again = serve(loader=loader, repository=tmp_path)
    assert model_of(again).current.label == "1"
    state, reason = await state_of(again, "2")
    assert state == "failed"
    assert "memory ran out" in reason
