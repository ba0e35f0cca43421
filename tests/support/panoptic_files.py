"""A small panoptic data set on disk, which tests change before they read it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from models.evaluation import PanopticDataset


class PanopticFiles:
    """Two pictures of 4 x 2 pixels and their maps, as ``set.json`` and the folder ``set``.

    Attributes:
        folder: that holds both, and the pictures.
        content: of the JSON, as the test wants it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "set").mkdir()
        for name in ("one", "two"):
            Image.new("RGB", (4, 2)).save(folder / f"{name}.jpg")
        self.write_map("one", [[1000, 1000, 0, 70_000], [1000, 1000, 0, 70_000]])
        self.write_map("two", [[1, 1, 2, 2], [1, 1, 2, 2]])
        self.content: dict[str, Any] = {
            "images": [
                {"id": 8, "file_name": "two.jpg", "height": 2, "width": 4},
                {"id": 3, "file_name": "one.jpg", "height": 2, "width": 4},
            ],
            "annotations": [
                {
                    "image_id": 8,
                    "file_name": "two.png",
                    "segments_info": [{"id": 1, "category_id": 1}, {"id": 2, "category_id": 2}],
                },
                {
                    "image_id": 3,
                    "file_name": "one.png",
                    "segments_info": [
                        {"id": 1000, "category_id": 1, "iscrowd": 0},
                        {"id": 70_000, "category_id": 5, "iscrowd": 0},
                    ],
                },
            ],
            "categories": [
                {"id": 5, "name": "sky", "isthing": 0},
                {"id": 6, "name": "road", "isthing": 0},
                {"id": 1, "name": "cat", "isthing": 1},
                {"id": 2, "name": "dog", "isthing": 1},
            ],
        }

    def write_map(self, name: str, ids: ArrayLike) -> None:
        """A map of segment ids as COCO has them in colours."""
        rest = np.asarray(ids)
        channels = np.stack([rest % 256, rest // 256 % 256, rest // 65_536], axis=-1)
        Image.fromarray(channels.astype(np.uint8)).save(self.folder / "set" / f"{name}.png")

    @property
    def path(self) -> Path:
        return self.folder / "set.json"

    def load(self) -> PanopticDataset:
        """Write the JSON and read the data set."""
        self.path.write_text(json.dumps(self.content))
        return PanopticDataset.load(self.path)
