"""Do the semantic maps of a data set fit the config that is to be trained with them?"""

from __future__ import annotations

import numpy as np

from models.config import Config
from models.training.data.dataset import TrainingDataset, TrainingImage
from models.training.data.errors import DataError
from models.training.data.expectations import Expectations
from models.training.data.findings import EXAMPLES, Finding
from models.training.data.semantic_map import read_semantic_map

_MOST_MAPS = 200
"""Semantic maps that are decoded, spread over the data set."""


def check_semantic(dataset: TrainingDataset, wanted: Expectations, cfg: Config) -> list[Finding]:
    """Whether there are maps if they are wanted, and no class in them that the model does not have.

    Some maps are decoded.
    """
    if wanted.num_stuff is None:
        if not dataset.has_sem_seg:
            return []
        unused = "The data has maps of semantic classes, but the model has no semantic head."
        return [Finding("note", "sem-seg-unused", unused)]
    if not dataset.has_sem_seg:
        return [
            Finding(
                "error",
                "sem-seg-absent",
                "The model learns semantic classes, but not every picture has a map of them.",
                "Give the folder of maps (--sem-seg): a PNG for each picture, of one channel.",
            )
        ]
    ignored: int = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    step = max(1, len(dataset.images) // _MOST_MAPS)
    beyond = []
    for image in dataset.images[::step][:_MOST_MAPS]:
        values = _values_of_map(image)
        wrong = [v for v in values if v >= wanted.num_stuff and v != ignored]
        if wrong:
            beyond.append(f"map of {image.path.name}: {', '.join(map(str, wrong[:EXAMPLES]))}")
    if not beyond:
        return []
    return [
        Finding.at(
            "error",
            "sem-seg-class",
            f"Semantic maps have classes that the model does not have: {wanted.stuff_key} is "
            f"{wanted.num_stuff}, so they go from 0 to {wanted.num_stuff - 1}, and {ignored} is ignored.",
            f"Set {wanted.stuff_key}, or write other numbers into the maps.",
            beyond,
        )
    ]


def _values_of_map(image: TrainingImage) -> list[int]:
    """The values of its map, ascending; none of a file that cannot be read, which is reported apart."""
    if image.sem_seg_path is None:
        return []
    try:
        found = read_semantic_map(image.sem_seg_path, (image.height, image.width))
    except DataError:
        return []
    return [int(value) for value in np.unique(found.numpy())]
