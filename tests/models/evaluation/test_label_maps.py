"""PNGs whose pixels are ids."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.evaluation import EvaluationError
from models.evaluation.label_maps import read_class_ids, read_segment_ids

IDS = np.array([[0, 1, 255], [7, 8, 9]])


def test_class_ids_of_eight_bits(tmp_path: Path) -> None:
    Image.fromarray(IDS.astype(np.uint8)).save(tmp_path / "a.png")
    found = read_class_ids(tmp_path / "a.png", (2, 3))
    assert found.dtype == np.int64
    assert found.tolist() == IDS.tolist()


def test_class_ids_of_sixteen_bits(tmp_path: Path) -> None:
    Image.fromarray((IDS * 200).astype(np.uint16)).save(tmp_path / "a.png")
    assert read_class_ids(tmp_path / "a.png").tolist() == (IDS * 200).tolist()


def test_of_a_palette_the_places_are_the_ids(tmp_path: Path) -> None:
    image = Image.fromarray(IDS.astype(np.uint8))
    image.putpalette([value for i in range(256) for value in (255 - i, i, 0)])
    image.save(tmp_path / "a.png")
    assert image.mode == "P"
    assert read_class_ids(tmp_path / "a.png").tolist() == IDS.tolist()


def test_segment_ids_are_of_three_bytes(tmp_path: Path) -> None:
    pixels = np.array([[[1, 2, 3], [0, 0, 0]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_segment_ids(tmp_path / "a.png").tolist() == [[1 + 2 * 256 + 3 * 65536, 0]]


def test_colours_are_no_class_ids_and_gray_is_no_segment(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "colours.png")
    Image.new("L", (3, 2)).save(tmp_path / "gray.png")
    with pytest.raises(EvaluationError, match=r"colours.png has mode RGB; .* not the colours"):
        read_class_ids(tmp_path / "colours.png")
    with pytest.raises(EvaluationError, match=r"gray.png has mode L; COCO's panoptic maps are RGB"):
        read_segment_ids(tmp_path / "gray.png")


def test_another_size_is_told(tmp_path: Path) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    with pytest.raises(EvaluationError, match=r"a.png is 3x2 pixels, its picture 2x3"):
        read_class_ids(tmp_path / "a.png", (3, 2))


def test_what_is_no_png(tmp_path: Path) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "a.jpg")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.jpg").read_bytes())
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name in ("a.png", "cut.png", "missing.png"):
        with pytest.raises(EvaluationError, match=f"{name} cannot be read as a PNG"):
            read_class_ids(tmp_path / name)
