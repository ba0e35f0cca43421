"""Schedulers on fake detectors, closed behind each test."""

from collections.abc import Iterator
from typing import Any

import pytest
from scheduler_bench import Bench, Benches


@pytest.fixture
def bench() -> Iterator[Benches]:
    """``bench(max_batch_size=2, ...)``: options of the scheduler by keyword."""
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield make
    for one in made:
        one.detector.go.set()
        one.scheduler.close()
