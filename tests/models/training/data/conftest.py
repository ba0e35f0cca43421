"""What the tests of data sets share."""

from pathlib import Path

import pytest
from training_files import TrainingFiles


@pytest.fixture
def files(tmp_path: Path) -> TrainingFiles:
    """A data set whose JSON is not written yet."""
    return TrainingFiles(tmp_path)
