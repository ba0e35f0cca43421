"""Maps of semantic classes on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.training.data.errors import DataError
from models.training.data.semantic_map import read_semantic_map

VALUES = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_grey_palette_and_16_bits_are_classes(tmp_path: Path) -> None:
    Image.fromarray(VALUES).save(tmp_path / "grey.png")
    indexed = Image.fromarray(VALUES, mode="P")
    indexed.putpalette([7] * 768)
    indexed.save(tmp_path / "palette.png")
    Image.fromarray(VALUES.astype(np.uint16) * 1000).save(tmp_path / "wide.png")
    for name, factor in (("grey", 1), ("palette", 1), ("wide", 1000)):
        found = read_semantic_map(tmp_path / f"{name}.png", (3, 4))
        assert found.dtype == torch.int32
        assert np.array_equal(found.numpy(), VALUES.astype(np.int32) * factor)


def test_colours_are_no_classes(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "map.png")
    with pytest.raises(DataError, match=r"map\.png has mode RGB"):
        read_semantic_map(tmp_path / "map.png", (3, 4))


def test_it_has_the_size_of_its_picture(tmp_path: Path) -> None:
    Image.fromarray(VALUES).save(tmp_path / "map.png")
    with pytest.raises(DataError, match=r"map\.png is 4x3 pixels, but its picture 4x4"):
        read_semantic_map(tmp_path / "map.png", (4, 4))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png cannot be read"):
        read_semantic_map(tmp_path / "none.png", (3, 4))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png cannot be read"):
        read_semantic_map(tmp_path / "text.png", (3, 4))
