"""A small COCO data set on disk, which tests change before they read it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.evaluation import CocoDataset


class DatasetFiles:
    """Two pictures, three instances of two categories, as ``set.json`` and the folder ``set``.

    Attributes:
        folder: that holds both.
        content: of the JSON, as the test wants it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "set").mkdir()
        for name, height, width in (("one.png", 40, 60), ("two.png", 50, 70)):
            Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(folder / "set" / name)
        self.content: dict[str, Any] = {
            "images": [
                {"id": 8, "file_name": "two.png", "height": 50, "width": 70},
                {"id": 3, "file_name": "one.png", "height": 40, "width": 60},
            ],
            "annotations": [
                self.annotation(0, 3, 5, [10, 10, 20, 20]),
                self.annotation(1, 3, 2, [30, 5, 10, 30]),
                self.annotation(2, 8, 2, [0, 0, 40, 40]),
            ],
            "categories": [{"id": 5, "name": "cat"}, {"id": 2, "name": "dog"}],
        }

    @staticmethod
    def annotation(id: int, image_id: int, category_id: int, bbox: list[float]) -> dict[str, Any]:
        """One with a rectangle as its polygon."""
        x, y, width, height = bbox
        right, bottom = x + width, y + height
        return {
            "id": id,
            "image_id": image_id,
            "category_id": category_id,
            "bbox": bbox,
            "area": width * height,
            "iscrowd": 0,
            "segmentation": [[x, y, right, y, right, bottom, x, bottom]],
        }

    @property
    def path(self) -> Path:
        return self.folder / "set.json"

    def load(self, images: Path | None = None) -> CocoDataset:
        """Write the JSON and read the data set."""
        self.path.write_text(json.dumps(self.content))
        return CocoDataset.load(self.path, images)
