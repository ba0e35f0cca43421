"""Who gets how many cores: the one place where thread counts are decided.

Two OpenMP pools on the same cores slow each other down many times over, so the cores are divided
once: intra-op threads for the model's thread, and plain worker threads (one core each) that decode,
resize and encode.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Cores:
    """Threads of the model's operators, and worker threads."""

    model: int
    workers: int


def available_cores() -> int:
    """Cores that this process may use: its CPU affinity, and the container's CPU quota."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2: no quota to read
    return cores


def divide_cores(threads: int, *, on_gpu: bool) -> Cores:
    """Divide ``threads`` (0: all cores) between the model and the workers.

    On a GPU the model's thread only launches kernels, so the workers get the rest. On a CPU the model
    is nearly all of the work, and one core in four goes to the workers.
    """
    total = threads or available_cores()
    if on_gpu:
        return Cores(model=1, workers=max(1, total - 1))
    workers = max(1, total // 4)
    return Cores(model=max(1, total - workers), workers=workers)


def _one_core() -> None:
    torch.set_num_threads(1)


class Workers:
    """Threads for image work: decoding, resizing, encoding. Never for the model."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="worker", initializer=_one_core)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` on a worker and wait for it without blocking the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, functools.partial(function, *args, **kwargs))

    def close(self) -> None:
        """Let running calls finish and drop the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)
