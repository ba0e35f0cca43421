"""What the tests of the detection library share: one thread, and the embedded shapes model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import models
from models import Predictor

SHAPES = Path(models.__file__).parent / "pretrained" / "shapes"

# The machine is shared with other tests: two pools of threads on the same cores are ruinous.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shapes_files() -> tuple[Path, Path]:
    """Config and weights of the embedded model: four classes, masks, a narrow ResNet-50 FPN."""
    return SHAPES / "config.yaml", SHAPES / "model_final.pth"


@pytest.fixture(scope="session")
def shapes_predictor(shapes_files: tuple[Path, Path]) -> Predictor:
    """The embedded model on the CPU. Tests must not change it."""
    return Predictor.from_files(*shapes_files, device="cpu")


@pytest.fixture(scope="session")
def shapes_picture() -> np.ndarray:
    """A picture that the embedded model knows, RGB (161, 236, 3)."""
    return np.array(Image.open(SHAPES / "samples" / "shapes-1.jpg").convert("RGB"))
