"""Batches of mapped pictures, read ahead by other processes where there are any."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from models.config import Config
from models.errors import ConfigError, ModelError
from models.training.data.batches import build_batches
from models.training.data.dataset import TrainingDataset, TrainingImage
from models.training.data.mapper import TrainingMapper
from models.training.seeds import mixed_seed

Mapper = Callable[[TrainingImage, int], dict[str, Any]]
"""From a picture and a seed to what a model takes."""

_BATCHES_AHEAD = 2


class TrainingLoader(Iterator[list[dict[str, Any]]]):
    """Endless batches; leave it by :meth:`close` or as a context manager, and no process stays.

    Each sample depends on ``seed`` and its position alone, so neither the number of workers nor a resume
    changes any.

    Args:
        batches: lists of (position, index), see :func:`models.training.data.batches.build_batches`; all
            of one length.
        dataset: that the indices belong to.
        mapper: makes an input of a picture; for workers that are spawned it must be picklable.
        seed: mixed with a sample's position for the mapper.
        batch_size: length of a list.
        num_workers: processes that read ahead, at most one for each processor; 0 reads in this one.
        pin_memory: whether pictures are put into memory that a GPU copies from without waiting.
        start_method: of the workers: "fork", "spawn", "forkserver", None for the platform's own.
    """

    def __init__(
        self,
        batches: Iterator[list[tuple[int, int]]],
        dataset: TrainingDataset,
        mapper: Mapper,
        *,
        seed: int,
        batch_size: int,
        num_workers: int = 0,
        pin_memory: bool = False,
        start_method: str | None = None,
    ) -> None:
        num_workers = min(num_workers, _processors())
        # One sample at a time: workers share out each batch rather than wait for whole ones.
        loader = DataLoader(
            _Samples(dataset, mapper, seed),
            batch_size=None,
            sampler=_Endless(batches),
            num_workers=num_workers,
            collate_fn=_unchanged,
            pin_memory=pin_memory,
            worker_init_fn=_leave_signals_alone if num_workers else None,
            multiprocessing_context=start_method if num_workers else None,
            # Otherwise its seed for workers would be drawn from the global generator.
            generator=torch.Generator(),
            prefetch_factor=(
                max(2, math.ceil(_BATCHES_AHEAD * batch_size / num_workers))
                if num_workers
                else None
            ),
        )
        self._batch_size = batch_size
        self._samples: Any = iter(loader)

    def __next__(self) -> list[dict[str, Any]]:
        """The next batch.

        Raises:
            ModelError: of the mapper, with its own message; the loader is closed then.
        """
        if self._samples is None:
            raise StopIteration
        batch = list(islice(self._samples, self._batch_size))
        for sample in batch:
            if isinstance(sample, ModelError):
                self.close()
                raise sample
        return batch

    def close(self) -> None:
        """End the workers and wait until they are gone. Closing twice is no error."""
        samples, self._samples = self._samples, None
        # PyTorch ends them when its iterator is collected, which a traceback that holds it puts off.
        end = getattr(samples, "_shutdown_workers", None)
        if end is not None:
            end()

    def __enter__(self) -> TrainingLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def build_loader(
    cfg: Config,
    dataset: TrainingDataset,
    *,
    seed: int,
    batch_size: int,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    mapper: Mapper | None = None,
    start_method: str | None = None,
) -> TrainingLoader:
    """This process's part of each batch, mapped, without end.

    Args:
        cfg, dataset, batch_size, start, rank, world_size: see
            :func:`models.training.data.batches.build_batches`.
        seed: of the order and of all that is random in the samples.
        num_workers: processes that read ahead; 0 reads in this one.
        mapper: None for a :class:`TrainingMapper`.
        start_method: of the workers, see :class:`TrainingLoader`.

    Raises:
        ConfigError, DataError: as by :func:`build_batches` and :class:`TrainingMapper`.
    """
    if num_workers < 0:
        raise ConfigError(
            f"DATALOADER.NUM_WORKERS is {num_workers}; it is 0 or more.",
            key="DATALOADER.NUM_WORKERS",
        )
    batches = build_batches(
        cfg,
        dataset,
        seed=seed,
        batch_size=batch_size,
        start=start,
        rank=rank,
        world_size=world_size,
    )
    return TrainingLoader(
        batches,
        dataset,
        mapper or TrainingMapper(cfg, dataset),
        seed=seed,
        batch_size=batch_size // world_size,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        start_method=start_method,
    )


class _Samples(Dataset[Any]):
    """Mapped pictures, by (position, index)."""

    def __init__(self, dataset: TrainingDataset, mapper: Mapper, seed: int) -> None:
        self._images = dataset.images
        self._mapper = mapper
        self._seed = seed

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Any] | ModelError:
        position, index = place
        try:
            return self._mapper(self._images[index], mixed_seed(self._seed, position))
        except ModelError as error:
            # As a value: PyTorch would wrap its message into a worker's traceback.
            return error.with_traceback(None)


class _Endless:
    """The samples of all batches one after another, as PyTorch wants a sampler: something to iterate."""

    def __init__(self, batches: Iterator[list[tuple[int, int]]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return chain.from_iterable(self._batches)


def _processors() -> int:
    """Those that this process may run on: PyTorch warns of more workers."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _unchanged(sample: Any) -> Any:
    return sample


def _leave_signals_alone(_: int) -> None:
    """Ctrl-C reaches every process of a terminal, and torchrun, Slurm and systemd send SIGTERM to all of a
    training: the one that trains decides what then happens, and ends these when it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
