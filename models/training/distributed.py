"""Several processes that train one model, as ``torchrun`` starts them."""

from __future__ import annotations

import datetime
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.device import resolve_device
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

    def at_first(self, mine: T) -> list[T]:
        """For the first process what every one has, in the order of ranks; for the others nothing."""
        if self.size == 1:
            return [mine]
        found: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(mine, found)
        return found or []

    def from_first(self, mine: T) -> T:
        """What the first process has."""
        if self.size == 1:
            return mine
        box = [mine]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def any(self, mine: bool) -> bool:
        """Whether it is so for any process."""
        return any(self.gather(mine))

    def copy_from_first_(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors, of equal shapes in every process, by those of the first one."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


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


def training_device(name: str, world: World) -> torch.device:
    """The device of this process: each of several takes its own GPU unless one is named.

    Raises:
        ModelError: the name is none, or that GPU is not there.
    """
    if world.size > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{world.local_rank}"
    device = resolve_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def shared(model: nn.Module, world: World, device: torch.device) -> nn.Module:
    """``model`` so that its gradients are the mean over the processes; itself for one process."""
    if world.size == 1:
        return model
    devices = [device] if device.type == "cuda" else None
    with warnings.catch_warnings():
        # Newer versions want another keyword, which older ones do not know.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)


@contextmanager
def process_group(world: World, device: torch.device) -> Iterator[None]:
    """Join the other processes and leave them after.

    Gradients of GPUs travel over NCCL. All else goes over gloo from host to host: it waits for no GPU
    and takes none of its memory.
    """
    if world.size == 1 or dist.is_initialized():
        yield
        return
    on_gpu = device.type == "cuda"
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, rank=world.rank, world_size=world.size, timeout=_PATIENCE)
    try:
        yield
    except BaseException:  # whatever ends it: how to leave depends on the device
        # NCCL leaves together with the others, and they wait for this process until torchrun, which
        # sees it end, ends them too.
        if not on_gpu:
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()
