"""What the tests of evaluation share."""

from pathlib import Path

import pytest
from coco_files import DatasetFiles


@pytest.fixture
def files(tmp_path: Path) -> DatasetFiles:
    """A data set whose JSON is not written yet."""
    return DatasetFiles(tmp_path)
