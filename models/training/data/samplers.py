"""In which order pictures are trained on: endless, epoch after epoch.

Each epoch is a function of the seed and its number alone, so that a training can be taken up anywhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.config import Config
from models.errors import ConfigError
from models.training.seeds import mixed_seed

Order = NDArray[np.int64]
"""(M,) places in the list that a sampler was made for."""


class Sampler(Protocol):
    """Orders a list of pictures."""

    def epoch(self, number: int) -> Order:
        """The order of epoch ``number``, from 0; may be of any length, in the long run not 0."""


class TrainingSampler:
    """Each picture once per epoch, shuffled.

    Args:
        size: number of pictures.
        seed: of the shuffling.
    """

    def __init__(self, size: int, *, seed: int) -> None:
        self._size = size
        self._seed = seed

    def epoch(self, number: int) -> Order:
        """(size,) places."""
        return _generator(self._seed, number).permutation(self._size)


class RandomSubsetTrainingSampler:
    """Some of the pictures, the same in all epochs, each once per epoch, shuffled.

    Args:
        size: number of pictures.
        ratio: of those that are trained on, above 0 and up to 1.
        seed: of the choice and of the shuffling.
    """

    def __init__(self, size: int, ratio: float, *, seed: int) -> None:
        self._seed = seed
        # -1 is no epoch's number.
        self._chosen = _generator(seed, -1).permutation(size)[: max(int(size * ratio), 1)]

    def epoch(self, number: int) -> Order:
        """(size * ratio,) places."""
        return _generator(self._seed, number).permutation(self._chosen)


class RepeatFactorTrainingSampler:
    """Pictures of rare classes come more often (Gupta et al. 2019, LVIS, appendix B.2).

    Args:
        factors: (N,) how often each picture comes per epoch in the mean; the fraction is drawn anew in
            each epoch.
        seed: of that and of the shuffling.
    """

    def __init__(self, factors: Sequence[float], *, seed: int) -> None:
        values = np.asarray(factors, dtype=np.float64)
        self._whole = values.astype(np.int64)
        self._fraction = values - self._whole
        self._seed = seed

    def epoch(self, number: int) -> Order:
        """(M,) places, some several times."""
        generator = _generator(self._seed, number)
        times = self._whole + (generator.random(len(self._whole)) < self._fraction)
        return generator.permutation(np.repeat(np.arange(len(times)), times))


def repeat_factors(
    classes: Sequence[Iterable[int]], threshold: float, *, square_root: bool = True
) -> tuple[float, ...]:
    """How often pictures should come so that rare classes do.

    A class that is in a part f of the pictures asks for max(1, sqrt(threshold / f)); a picture follows
    the one of its classes that asks for most, and comes once where it has none.

    Args:
        classes: class ids in each picture.
        threshold: classes in a smaller part of the pictures are repeated.
        square_root: False leaves the root out.
    """
    sets = [set(found) for found in classes]
    counts = Counter(class_id for found in sets for class_id in found)
    asked = {}
    for class_id, count in counts.items():
        ratio = threshold * len(sets) / count
        asked[class_id] = max(1.0, math.sqrt(ratio) if square_root else ratio)
    return tuple(max((asked[class_id] for class_id in found), default=1.0) for found in sets)


def build_sampler(cfg: Config, classes: Sequence[Iterable[int]], *, seed: int) -> Sampler:
    """The one that ``DATALOADER.SAMPLER_TRAIN`` names.

    Args:
        cfg: also of ``REPEAT_THRESHOLD``, ``REPEAT_SQRT`` and ``RANDOM_SUBSET_RATIO``.
        classes: class ids in each picture that is trained on.
        seed: of all that it draws.

    Raises:
        ConfigError: there is no such sampler, or a number is out of its range.
    """
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return TrainingSampler(len(classes), seed=seed)
    if name == "RepeatFactorTrainingSampler":
        threshold = cfg.DATALOADER.REPEAT_THRESHOLD
        if not 0 <= threshold <= 1:
            raise _out_of_range("DATALOADER.REPEAT_THRESHOLD", threshold)
        factors = repeat_factors(classes, threshold, square_root=cfg.DATALOADER.REPEAT_SQRT)
        return RepeatFactorTrainingSampler(factors, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        # Detectron2 leaves the key to the user's config.
        ratio = cfg.get("DATALOADER.RANDOM_SUBSET_RATIO", 1.0)
        if not 0 < ratio <= 1:
            raise _out_of_range("DATALOADER.RANDOM_SUBSET_RATIO", ratio)
        return RandomSubsetTrainingSampler(len(classes), ratio, seed=seed)
    raise ConfigError(
        f"DATALOADER.SAMPLER_TRAIN is {name!r}; it is TrainingSampler, RepeatFactorTrainingSampler or "
        "RandomSubsetTrainingSampler.",
        key="DATALOADER.SAMPLER_TRAIN",
    )


def _generator(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng(mixed_seed(seed, number))


def _out_of_range(key: str, value: object) -> ConfigError:
    return ConfigError(f"{key} is {value!r}; it is a part of the pictures, 0 to 1.", key=key)
