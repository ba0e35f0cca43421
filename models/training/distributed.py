"""Several processes that train one model, as ``torchrun`` starts them."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from models.errors import ConfigError

T = TypeVar("T")

_PATIENCE = datetime.timedelta(hours=2)  # one process measures AP while the others wait


@dataclass(frozen=True)
class World:
    """Which of how many processes this is.

    Attributes:
        rank: 0 .. size - 1; the first one writes files.
        size: processes.
        local_rank: among those of this machine, the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and the terminal."""
        return self.rank == 0

    def gather(self, mine: T) -> list[T]:
        """What every process has, in the order of ranks."""
        if self.size == 1:
            return [mine]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine)
        return found

    def from_first(self, mine: T) -> T:
        """What the first process has."""
        if self.size == 1:
            return mine
        box = [mine]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def any(self, mine: bool, device: torch.device) -> bool:
        """Whether it is so for any process."""
        if self.size == 1:
            return mine
        flag = torch.tensor([int(mine)], device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())


def world_from_environment() -> World:
    """What ``torchrun`` says in the environment; one process without it.

    Raises:
        ConfigError: it says something else than numbers.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(name in os.environ for name in names):
        return World()
    try:
        rank, size, local_rank = (int(os.environ[name]) for name in names)
    except ValueError:
        raise ConfigError(
            "RANK, WORLD_SIZE and LOCAL_RANK in the environment are no numbers; start the training "
            "with torchrun, or unset them."
        ) from None
    return World(rank, size, local_rank)


@contextmanager
def process_group(world: World, device: torch.device) -> Iterator[None]:
    """Join the other processes, over NCCL between GPUs and gloo between CPUs, and leave them after."""
    if world.size == 1 or dist.is_initialized():
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=world.rank, world_size=world.size, timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()
