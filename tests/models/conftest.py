"""What the tests of the detection library share: one thread, and a model that Detectron2 trained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import models
from models import Predictor

SHAPES = Path(__file__).parents[1] / "data" / "shapes"
SAMPLES = Path(models.__file__).parent / "pretrained" / "shapes" / "samples"

# The machine is shared with other tests: two pools of threads on the same cores are ruinous.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shapes_files() -> tuple[Path, Path]:
    """Config and weights by Detectron2's trainer: four classes, masks, a narrow ResNet-50 FPN."""
    return SHAPES / "config.yaml", SHAPES / "model_final.pth"


@pytest.fixture(scope="session")
def shapes_predictor(shapes_files: tuple[Path, Path]) -> Predictor:
    """That model on the CPU. Tests must not change it."""
    return Predictor.from_files(*shapes_files, device="cpu")


@pytest.fixture(scope="session")
def shapes_picture() -> np.ndarray:
    """A picture of shapes, RGB (161, 236, 3)."""
    return np.array(Image.open(SAMPLES / "shapes-1.jpg").convert("RGB"))
