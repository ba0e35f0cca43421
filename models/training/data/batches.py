"""Which pictures make up which batch: a function of the seed and the number of the batch alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.config import Config
from models.errors import ConfigError
from models.training.data.dataset import TrainingDataset
from models.training.data.samplers import Order, Sampler, build_sampler
from models.training.data.selection import pictures_to_train_on

_AT_ONCE = 256
"""Samples: shorter epochs are joined before they are sorted into batches."""


def build_batches(
    cfg: Config,
    dataset: TrainingDataset,
    *,
    seed: int,
    batch_size: int,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[list[tuple[int, int]]]:
    """This process's part of each batch, without end.

    The batches do not depend on the number of processes: those of all ranks, joined in order, are the
    batch that one process alone gets.

    Args:
        cfg: ``DATALOADER`` decides which pictures, in which order, and with ``ASPECT_RATIO_GROUPING``
            whether those of a batch are all wider than high or none is.
        dataset: to train on.
        seed: of the order.
        batch_size: pictures of a batch, over all processes.
        start: number of the first batch, from 0: as if those before had been taken and dropped.
        rank: of this process, 0 .. world_size - 1.
        world_size: number of processes.

    Returns:
        Lists of (position, index): where the picture stands in the endless order, which is different for
        each sample and so is what its random numbers depend on; and where it stands in
        ``dataset.images``.

    Raises:
        ConfigError: ``batch_size`` cannot be shared out evenly; the sampler is not known.
        DataError: no picture can be trained on.
    """
    if batch_size < 1:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {batch_size}; it is 1 or more.", key="SOLVER.IMS_PER_BATCH"
        )
    if batch_size % world_size:
        raise ConfigError(
            f"A batch of {batch_size} cannot be shared out evenly among {world_size} processes; make it "
            "a multiple of their number.",
            key="SOLVER.IMS_PER_BATCH",
        )
    chosen = pictures_to_train_on(cfg, dataset)
    images = [dataset.images[index] for index in chosen]
    sampler = build_sampler(
        cfg, [{found.class_id for found in image.objects} for image in images], seed=seed
    )
    is_wide = np.array([image.width > image.height for image in images])
    groups = is_wide if cfg.DATALOADER.ASPECT_RATIO_GROUPING else np.zeros_like(is_wide)
    share = batch_size // world_size
    part = slice(rank * share, (rank + 1) * share)
    batches = _batches(sampler, groups, batch_size, start)
    places = np.array(chosen)
    return (
        list(zip(batch[part, 0].tolist(), places[batch[part, 1]].tolist(), strict=True))
        for batch in batches
    )


def _batches(
    sampler: Sampler, groups: NDArray[np.bool_], batch_size: int, start: int
) -> Iterator[NDArray[np.int64]]:
    """(batch_size, 2) positions and places, each batch of one group, in the order in which they fill up.

    Whole epochs are sorted into batches at once, so that those before ``start`` cost next to nothing.
    """
    waiting = [np.empty((0, 2), dtype=np.int64) for _ in range(2)]
    position = 0
    done = 0
    for order in _joined_epochs(sampler):
        samples = np.stack((np.arange(position, position + len(order)), order), axis=1)
        position += len(order)
        full = []
        for group in range(2):
            mine = np.concatenate((waiting[group], samples[groups[order] == group]))
            number = len(mine) // batch_size
            full.append(mine[: number * batch_size].reshape(number, batch_size, 2))
            waiting[group] = mine[number * batch_size :]
        batches = np.concatenate(full)
        batches = batches[np.argsort(batches[:, -1, 0])]
        yield from batches[max(start - done, 0) :]
        done += len(batches)


def _joined_epochs(sampler: Sampler) -> Iterator[Order]:
    """The endless order in pieces of one epoch, or of several where they are short."""
    epoch = 0
    while True:
        joined: list[Order] = []
        while sum(map(len, joined)) < _AT_ONCE:
            joined.append(sampler.epoch(epoch))
            epoch += 1
        yield np.concatenate(joined)
