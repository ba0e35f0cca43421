"""The shapes with all that an architecture may want to learn: keypoints, label maps, rotated boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_masks
from PIL import Image
from tiny_training import CLASSES, tiny_shapes

from models.evaluation import SemanticDataset
from models.training.data.dataset import TrainingDataset

CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")
"""The keypoints of an object: the corners of its box."""

STUFF = ("ground", *CLASSES)
"""The classes of the label maps: what is no shape, and the shapes."""

_ANGLE = 20.0


def annotated_shapes(
    folder: Path, count: int = 4, *, seed: int = 1, name: str = "train", rotated: bool = False
) -> TrainingDataset:
    """Pictures whose objects have masks and keypoints, and a label map for each.

    Args:
        folder: gets the pictures, the JSON and the folder of label maps.
        count, seed, name: of the pictures.
        rotated: whether boxes are rotated by 20 degrees.
    """
    path = tiny_shapes(folder, count, seed=seed, name=name)
    content = json.loads(path.read_text())
    maps = folder / f"{name}_maps"
    maps.mkdir(exist_ok=True)
    for image in content["images"]:
        objects = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        classes = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in objects:
            classes[coco_masks.decode(annotation["segmentation"]) > 0] = annotation["category_id"]
        Image.fromarray(classes).save(maps / Path(image["file_name"]).with_suffix(".png").name)
        for annotation in objects:
            _annotate_(annotation, rotated=rotated)
    for category in content["categories"]:
        category["keypoints"] = list(CORNERS)
    path.write_text(json.dumps(content))
    return TrainingDataset.load(path, sem_seg=maps)


def label_maps(folder: Path, count: int = 2) -> SemanticDataset:
    """Pictures to judge a semantic model by."""
    annotated_shapes(folder, count, seed=2, name="val")
    return SemanticDataset.load(folder / "val_maps", folder / "val", class_names=STUFF)


def _annotate_(annotation: dict[str, Any], *, rotated: bool) -> None:
    x, y, width, height = annotation["bbox"]
    # A file counts keypoints in whole pixels, from the middle of the first.
    right, bottom = x + width - 1, y + height - 1
    corners = ((x, y), (right, y), (x, bottom), (right, bottom))
    annotation["keypoints"] = [number for corner in corners for number in (*corner, 2)]
    if rotated:
        annotation["bbox"] = [x + width / 2, y + height / 2, width, height, _ANGLE]
