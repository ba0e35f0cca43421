"""Who gets how many cores: the one place where thread counts are decided.

Two OpenMP pools on the same cores slow each other down many times over, so the cores are divided
once: intra-op threads for the model's thread, and plain worker threads (one core each) that decode,
resize and encode. NumPy's own pool, of its linear algebra, is never woken: images and masks need none.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

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
    takes a core for seconds where an image takes a worker for hundredths, and one core in eight goes
    to the workers. Together they are no more than the cores, but for a single core, which one thread
    of each has to share.
    """
    total = threads or available_cores()
    if on_gpu:
        return Cores(model=1, workers=max(1, total - 1))
    workers = max(1, total // 8)
    return Cores(model=max(1, total - workers), workers=workers)


def use_cores(number: int) -> None:
    """Run PyTorch's operators on so many threads, where the calling thread calls them."""
    # PyTorch gives a thread the process's latest number when it first asks for one, and would do so
    # behind the next line, whatever that says.
    torch.get_num_threads()
    torch.set_num_threads(number)


class _Call:
    """Something to do on a worker, and the future on an event loop that gets the result."""

    __slots__ = ("function", "future", "loop")

    def __init__(self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.function = function
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def make(self) -> None:
        """On a worker: do it, unless nobody waits any more."""
        if self.future.done():
            return
        try:
            result = self.function()
        except BaseException as error:  # it belongs to the caller, not to this thread
            self.tell(functools.partial(self._fail, error))
        else:
            self.tell(functools.partial(self._succeed, result))

    def tell(self, function: Callable[[], Any]) -> None:
        """Call ``function`` on the event loop, if there still is one."""
        with contextlib.suppress(RuntimeError):  # it has closed: nobody waits
            self.loop.call_soon_threadsafe(function)

    def _succeed(self, result: Any) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Workers:
    """Threads for image work: decoding, resizing, encoding. Never for the model.

    One pool for both ends of an image's way, since either may have all the work; but what finishes an
    image goes before what starts one, or answers would wait behind every image that has just arrived.

    Calls and results pass through a ``SimpleQueue`` and ``call_soon_threadsafe``: ``run_in_executor``'s
    two kinds of futures and condition variables cost more than a worker does for a small image.

    Args:
        threads: how many; each runs PyTorch's operators on one core.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._finishing: collections.deque[_Call] = collections.deque()
        self._starting: collections.deque[_Call] = collections.deque()
        # True for each call that was ever put into one of them, False for a worker that is to end.
        self._tickets: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._closed = False
        self._pool = [
            threading.Thread(target=self._work, name=f"worker_{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._pool:
            thread.start()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` on a worker and wait for it without blocking the event loop."""
        return await self._await(self._starting, functools.partial(function, *args, **kwargs))

    async def finish(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As :meth:`run`, before all that waits there."""
        return await self._await(self._finishing, functools.partial(function, *args, **kwargs))

    async def _await(self, waiting: collections.deque[_Call], function: Callable[[], T]) -> T:
        if self._closed:
            raise RuntimeError("The workers are closed.")
        call = _Call(function, asyncio.get_running_loop())
        waiting.append(call)
        self._tickets.put(True)
        result: T = await call.future
        return result

    def close(self) -> None:
        """Let running calls finish and drop the rest."""
        self._closed = True
        while (call := self._next()) is not None:
            call.tell(call.future.cancel)
        for _ in self._pool:
            self._tickets.put(False)
        for thread in self._pool:
            thread.join()

    def _work(self) -> None:
        use_cores(1)
        while self._tickets.get():
            call = self._next()
            if call is not None:
                call.make()
            del call  # or an image would live until the next one comes

    def _next(self) -> _Call | None:
        for waiting in (self._finishing, self._starting):
            try:
                return waiting.popleft()
            except IndexError:
                continue
        return None
