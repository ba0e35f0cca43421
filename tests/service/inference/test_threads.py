"""Cores: how they are counted and divided, and who runs where."""

import asyncio
import io
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from fake_detector import PATIENCE_S
from PIL import Image

from models.layers.mask_runs import encode_pasted_masks
from models.predictor import Preprocessing
from service.images import ImageLimits, decode_image
from service.inference import threads
from service.inference.threads import Cores, Workers, available_cores, divide_cores, use_cores


@pytest.mark.parametrize(
    ("total", "on_gpu", "cores"),
    [
        (1, False, Cores(model=1, workers=1)),
        (2, False, Cores(model=1, workers=1)),
        (4, False, Cores(model=3, workers=1)),
        (8, False, Cores(model=7, workers=1)),
        (64, False, Cores(model=56, workers=8)),
        (1, True, Cores(model=1, workers=1)),
        (8, True, Cores(model=1, workers=7)),
    ],
)
def test_cores_are_divided_between_model_and_workers(
    total: int, on_gpu: bool, cores: Cores
) -> None:
    assert divide_cores(total, on_gpu=on_gpu) == cores


@pytest.mark.parametrize("on_gpu", [False, True])
def test_there_are_never_more_threads_than_cores_from_two_on(on_gpu: bool) -> None:
    for total in range(2, 130):
        cores = divide_cores(total, on_gpu=on_gpu)
        assert cores.model + cores.workers == total


def test_zero_means_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: 12)
    assert divide_cores(0, on_gpu=False) == Cores(model=11, workers=1)


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


def elsewhere(function: Callable[[], Any]) -> Any:
    """What ``function`` gives on a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


@pytest.mark.anyio
async def test_what_the_model_takes_changes_no_worker_and_the_other_way_round() -> None:
    with ThreadPoolExecutor(1) as model:
        model.submit(use_cores, 3).result()
        workers = Workers(1)
        try:
            assert await workers.run(torch.get_num_threads) == 1
            assert model.submit(torch.get_num_threads).result() == 3
            elsewhere(lambda: torch.set_num_threads(5))  # now the process's latest number
            assert await workers.run(torch.get_num_threads) == 1
            assert model.submit(torch.get_num_threads).result() == 3
        finally:
            workers.close()
            elsewhere(lambda: use_cores(1))  # what later tests start from


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
@pytest.mark.anyio
async def test_image_work_starts_no_further_threads() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG")
    masks = torch.rand(50, 28, 28)
    boxes = torch.tensor([[10.0, 10.0, 700.0, 500.0]]).repeat(50, 1)

    def image_work() -> int:
        decoded = decode_image(jpeg.getvalue(), ImageLimits()).pixels
        Preprocessing("BGR", 800, 1333, 32, "fast")(decoded)
        Preprocessing("BGR", 800, 1333, 32, "pil")(decoded)
        encode_pasted_masks(masks, boxes, (600, 800))
        return len(os.listdir("/proc/self/task"))

    elsewhere(lambda: use_cores(4))
    workers = Workers(1)
    try:
        before = len(os.listdir("/proc/self/task"))
        assert await workers.run(image_work) <= before
    finally:
        workers.close()
        elsewhere(lambda: use_cores(1))


@pytest.mark.anyio
async def test_what_finishes_an_image_goes_before_what_starts_one() -> None:
    workers, entered, go = Workers(1), threading.Event(), threading.Event()
    done: list[str] = []

    def occupy() -> None:
        entered.set()
        assert go.wait(PATIENCE_S)

    try:
        calls = [asyncio.ensure_future(workers.run(occupy))]
        assert await asyncio.to_thread(entered.wait, PATIENCE_S)
        for name, how in (
            ("first start", workers.run),
            ("second start", workers.run),
            ("first end", workers.finish),
            ("second end", workers.finish),
        ):
            calls.append(asyncio.ensure_future(how(done.append, name)))
        await asyncio.sleep(0)  # each has taken its place
        go.set()
        await asyncio.gather(*calls)
    finally:
        go.set()
        workers.close()
    assert done == ["first end", "second end", "first start", "second start"]


@pytest.mark.anyio
async def test_a_call_that_nobody_waits_for_any_more_is_not_made() -> None:
    workers, entered, go = Workers(1), threading.Event(), threading.Event()
    made: list[str] = []

    def occupy() -> None:
        entered.set()
        assert go.wait(PATIENCE_S)

    try:
        running = asyncio.ensure_future(workers.run(occupy))
        assert await asyncio.to_thread(entered.wait, PATIENCE_S)
        waiting = asyncio.ensure_future(workers.run(made.append, "cancelled"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go.set()
        await running
        await workers.run(made.append, "next")
    finally:
        go.set()
        workers.close()
    assert made == ["next"]


@pytest.mark.anyio
async def test_closed_workers_take_no_calls() -> None:
    workers = Workers(2)
    workers.close()
    with pytest.raises(RuntimeError, match="closed"):
        await workers.run(lambda: None)


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
