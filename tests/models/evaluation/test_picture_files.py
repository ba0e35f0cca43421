"""Pictures that evaluation reads: upright, of the size that was said, and nothing but pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.evaluation import EvaluationError, read_picture

COLOURS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
ORIENTATION = 0x0112


def saved(path: Path, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(COLOURS).save(path, exif=exif)
    return path


def test_pixels_are_rgb_and_writable(tmp_path: Path) -> None:
    pixels = read_picture(saved(tmp_path / "a.png"), (4, 6))
    assert np.array_equal(pixels, COLOURS)
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous


def test_grey_and_palette_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(COLOURS[:, :, 0]).save(tmp_path / "grey.png")
    assert read_picture(tmp_path / "grey.png").shape == (4, 6, 3)
    Image.fromarray(COLOURS).convert("P").save(tmp_path / "a.gif")
    assert read_picture(tmp_path / "a.gif").shape == (4, 6, 3)


def test_the_orientation_is_applied(tmp_path: Path) -> None:
    turned = read_picture(saved(tmp_path / "a.png", orientation=6), (6, 4))
    assert np.array_equal(turned, np.rot90(COLOURS, k=-1))


def test_another_size_is_an_error_that_knows_of_the_orientation(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png")
    with pytest.raises(EvaluationError, match=r"a.png is 6x4 pixels, but should be 4x6\.$"):
        read_picture(path, (6, 4))
    turned = saved(tmp_path / "b.png", orientation=6)
    with pytest.raises(EvaluationError, match="4x6 pixels, but should be 6x4 without its EXIF"):
        read_picture(turned, (4, 6))


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:60])
    for broken in (path, tmp_path / "missing.png", tmp_path):
        with pytest.raises(EvaluationError, match=f"{broken.name} cannot be read as a picture"):
            read_picture(broken)


def test_formats_that_are_programs_are_not_opened(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.eps")
    with pytest.raises(EvaluationError, match=r"a.eps cannot be read as a picture"):
        read_picture(tmp_path / "a.eps")


def test_more_than_8_bits_are_refused_and_not_cut_off(tmp_path: Path) -> None:
    Image.fromarray(COLOURS[:, :, 0].astype(np.uint16) * 300).save(tmp_path / "deep.png")
    with pytest.raises(EvaluationError, match="more than 8 bits"):
        read_picture(tmp_path / "deep.png")
