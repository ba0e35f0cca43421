"""A small evaluation to report on: two pictures, one with a mistake of every kind."""

import numpy as np
import pytest
import torch
from coco_files import DatasetFiles
from PIL import Image

from models.evaluation import CocoDataset, DetailedEvaluator, DetailedResult
from models.structures import Boxes, Instances

NAMES = ["cat", "dog"]


def found(size: tuple[int, int], *rows: tuple[list[float], int, float]) -> Instances:
    """An answer: XYXY boxes with classes and scores, their masks whole boxes."""
    frames = torch.zeros(len(rows), *size, dtype=torch.bool)
    for frame, (box, _, _) in zip(frames, rows, strict=True):
        x1, y1, x2, y2 = (round(side) for side in box)
        frame[y1:y2, x1:x2] = True
    return Instances(
        size,
        pred_boxes=Boxes(torch.tensor([row[0] for row in rows]).reshape(-1, 4)),
        pred_classes=torch.tensor([row[1] for row in rows], dtype=torch.int64),
        scores=torch.tensor([row[2] for row in rows]),
        pred_masks=frames,
    )


@pytest.fixture
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    files = DatasetFiles(tmp_path_factory.mktemp("data"))
    for name, size in (("one.png", (40, 60)), ("two.png", (50, 70))):
        Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(files.folder / "set" / name)
    return files.load()


@pytest.fixture
def perfect(dataset: CocoDataset) -> DetailedResult:
    """All is found, and nothing else."""
    evaluator = DetailedEvaluator(dataset, NAMES)
    evaluator.add(3, found((40, 60), ([10, 10, 30, 30], 0, 0.9), ([30, 5, 40, 35], 1, 0.8)))
    evaluator.add(8, found((50, 70), ([0, 0, 40, 40], 1, 0.95)))
    return evaluator.detailed_result()


@pytest.fixture
def flawed(dataset: CocoDataset) -> DetailedResult:
    """Picture 3: the cat is a dog, the dog is missed, and there is a false cat. Picture 8 is right."""
    evaluator = DetailedEvaluator(dataset, NAMES)
    evaluator.add(3, found((40, 60), ([10, 10, 30, 30], 1, 0.9), ([42, 2, 55, 12], 0, 0.7)))
    evaluator.add(8, found((50, 70), ([0, 0, 40, 40], 1, 0.95)))
    return evaluator.detailed_result()
