"""Cores: how they are counted and divided, and who runs where."""

import asyncio
import io
import threading
from typing import Any

import pytest
import torch
from fake_detector import PATIENCE_S

from service.inference import threads
from service.inference.threads import Cores, Workers, available_cores, divide_cores


@pytest.mark.parametrize(
    ("total", "on_gpu", "cores"),
    [
        (1, False, Cores(model=1, workers=1)),
        (2, False, Cores(model=1, workers=1)),
        (4, False, Cores(model=3, workers=1)),
        (8, False, Cores(model=6, workers=2)),
        (64, False, Cores(model=48, workers=16)),
        (1, True, Cores(model=1, workers=1)),
        (8, True, Cores(model=1, workers=7)),
    ],
)
def test_cores_are_divided_between_model_and_workers(
    total: int, on_gpu: bool, cores: Cores
) -> None:
    assert divide_cores(total, on_gpu=on_gpu) == cores


def test_zero_means_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: 12)
    assert divide_cores(0, on_gpu=False) == Cores(model=9, workers=3)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("garbage", 8),
        (None, 8),
    ],
)
def test_cores_are_what_affinity_and_the_container_allow(
    monkeypatch: pytest.MonkeyPatch, quota: str | None, cores: int
) -> None:
    def open_quota(*args: Any, **kwargs: Any) -> io.StringIO:
        if quota is None:
            raise FileNotFoundError
        return io.StringIO(quota)

    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "open", open_quota, raising=False)
    assert available_cores() == cores


@pytest.mark.anyio
async def test_workers_run_beside_the_event_loop_with_one_core_each() -> None:
    workers = Workers(2)
    try:
        name, cores = await workers.run(
            lambda: (threading.current_thread().name, torch.get_num_threads())
        )
    finally:
        workers.close()
    assert name.startswith("worker")
    assert cores == 1


@pytest.mark.anyio
async def test_what_a_worker_raises_reaches_who_waits() -> None:
    workers = Workers(1)
    try:
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 / 0)
    finally:
        workers.close()


@pytest.mark.anyio
async def test_close_lets_running_calls_finish_and_drops_the_rest() -> None:
    workers, entered, go = Workers(1), threading.Event(), threading.Event()

    def occupy() -> str:
        entered.set()
        assert go.wait(PATIENCE_S)
        return "done"

    running = asyncio.ensure_future(workers.run(occupy))
    waiting = asyncio.ensure_future(workers.run(lambda: "never"))
    assert await asyncio.to_thread(entered.wait, PATIENCE_S)
    closing = asyncio.create_task(asyncio.to_thread(workers.close))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    assert await running == "done"
    await closing
