"""A scheduler on fake detectors, and what a test does with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fake_detector import PATIENCE_S, STEP, FakeDetector, pixels

from models.structures import Instances
from service.errors import ApiError
from service.inference.scheduler import Scheduler
from service.inference.work import BatchRecord, Inference
from service.repository.served import ServedModel
from service.repository.shelf import FileShelf
from service.repository.version import ModelVersion, RequestLease

BIG = (64, 64)


class Observer:
    """What the scheduler reported."""

    def __init__(self) -> None:
        self.batches: list[BatchRecord] = []
        self.out_of_memories: list[str] = []
        self.memory_caps: list[tuple[str, str, int, int]] = []

    def batch_done(self, batch: BatchRecord) -> None:
        self.batches.append(batch)

    def out_of_memory(self, model: str, action: str) -> None:
        self.out_of_memories.append(action)

    def memory_cap(self, model: str, version: str, images: int, pixels: int) -> None:
        self.memory_caps.append((model, version, images, pixels))


class Bench:
    """A scheduler, one model on it, and what the scheduler reported."""

    def __init__(self, **options: Any) -> None:
        self.observer = Observer()
        defaults = {
            "max_batch_size": 8, "max_batch_pixels": 10**9, "max_wait_s": 0.0, "max_queue": 100,
            "model_threads": 1, "observer": self.observer,
        }  # fmt: skip
        self.scheduler = Scheduler(**(defaults | options))
        self.detector = FakeDetector()
        self.model = self.serve("shapes", self.detector)

    def serve(self, name: str, detector: FakeDetector) -> ServedModel:
        """Another model on the same device."""
        model = ServedModel(name, FileShelf())
        model.current = ModelVersion(name, "1", detector)
        return model

    def swap(self, **described: Any) -> FakeDetector:
        """Make a next version current."""
        number = int(self.model.current.label) + 1
        detector = FakeDetector(number, **described)
        self.model.current = ModelVersion("shapes", str(number), detector)
        return detector

    async def send(
        self,
        *marks: int,
        size: tuple[int, int] = (32, 32),
        lease: RequestLease | None = None,
        model: ServedModel | None = None,
    ) -> list[asyncio.Task[Inference]]:
        """Queue images, one request each unless a lease joins them."""
        model = model or self.model
        tasks = [
            asyncio.ensure_future(
                self.scheduler.infer(
                    model,
                    model.current.detector.prepare(pixels(mark, size)),
                    lease or RequestLease(),
                )
            )
            for mark in marks
        ]
        await asyncio.sleep(0)  # one turn of the loop: each has queued its image
        return tasks

    @contextmanager
    def busy(self) -> Iterator[None]:
        """The model thread is busy: what is sent meanwhile waits."""
        entered, go = threading.Event(), threading.Event()

        def occupy() -> None:
            entered.set()
            assert go.wait(PATIENCE_S)

        self.scheduler.call(occupy)
        assert entered.wait(PATIENCE_S)
        try:
            yield
        finally:
            go.set()

    def settle(self) -> None:
        """Wait until the model thread is behind its running batch, its report included."""
        self.scheduler.call(lambda: None).result(PATIENCE_S)


Benches = Callable[..., Bench]


async def answers(tasks: list[asyncio.Task[Inference]]) -> list[Inference]:
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.gather(*tasks)


async def outcomes(tasks: list[asyncio.Task[Inference]]) -> list[Inference | BaseException]:
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def failure(work: Coroutine[Any, Any, Inference] | asyncio.Task[Inference]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        async with asyncio.timeout(PATIENCE_S):
            await work
    return caught.value


def told_mark(instances: Instances) -> int:
    return int(instances.pred_boxes.tensor[0, 1] / STEP)
