"""A small data set to train on, which tests change before they read it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from coco_files import DatasetFiles
from PIL import Image

from models.training.data.dataset import TrainingDataset


class TrainingFiles(DatasetFiles):
    """The pictures 3 (``one.png``, 60x40: a cat, a dog) and 8 (``two.png``, 70x50: a dog)."""

    def read(self, **options: Any) -> TrainingDataset:
        """Write the JSON and read the data set with these options."""
        self.path.write_text(json.dumps(self.content))
        return TrainingDataset.load(self.path, **options)

    @property
    def first(self) -> dict[str, Any]:
        """The first annotation: the cat of picture 3 at 10, 10 with sides of 20."""
        first: dict[str, Any] = self.content["annotations"][0]
        return first

    def give_keypoints(self, number: int, **category: Any) -> None:
        """So many keypoints for each object; more keys for each category."""
        for annotation in self.content["annotations"]:
            annotation["keypoints"] = [12, 12, 2] * number
        for entry in self.content["categories"]:
            entry.update(category)


def codes(dataset: TrainingDataset) -> list[str]:
    """Severity and code of each finding."""
    return [f"{finding.severity} {finding.code}" for finding in dataset.findings]


def paint(path: Path, seed: int, size: tuple[int, int] = (60, 40), **options: Any) -> Path:
    """A picture of soft colours that differ by the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, **options)
    return path
