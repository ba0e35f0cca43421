"""Pictures that are all there, and such that a copy broke off of."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_files import paint

from models.training.data import whole_pictures as module
from models.training.data.whole_pictures import can_be_decoded, ends_as_it_should

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
WITH_AN_END = ("JPEG", "PNG")


def picture(folder: Path, kind: str) -> Path:
    return paint(folder / "picture", 1, size=(90, 80), format=kind)


def cut_off(path: Path, part: float) -> Path:
    """The beginning of a file."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    return path


@pytest.mark.parametrize("kind", FORMATS)
def test_a_whole_picture_is_one(kind: str, tmp_path: Path) -> None:
    path = picture(tmp_path, kind)
    assert can_be_decoded(path)
    assert ends_as_it_should(path)


@pytest.mark.parametrize("part", [0.5, 0.95])
@pytest.mark.parametrize("kind", FORMATS)
def test_decoding_finds_what_was_cut_off(kind: str, part: float, tmp_path: Path) -> None:
    assert not can_be_decoded(cut_off(picture(tmp_path, kind), part))


@pytest.mark.parametrize("part", [0.5, 0.95])
@pytest.mark.parametrize("kind", WITH_AN_END)
def test_the_end_shows_what_was_cut_off(kind: str, part: float, tmp_path: Path) -> None:
    assert not ends_as_it_should(cut_off(picture(tmp_path, kind), part))


@pytest.mark.parametrize("behind", [b"\0" * 9, b"\0" * 10_000, b"a film" * 2000])
@pytest.mark.parametrize("kind", WITH_AN_END)
def test_something_behind_a_picture_is_no_harm(kind: str, behind: bytes, tmp_path: Path) -> None:
    path = picture(tmp_path, kind)
    path.write_bytes(path.read_bytes() + behind)
    assert ends_as_it_should(path)


@pytest.mark.parametrize("kind", WITH_AN_END)
def test_a_sound_end_saves_decoding(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(tmp_path, kind)
    monkeypatch.setattr(module, "can_be_decoded", lambda path: pytest.fail("it was decoded"))
    assert ends_as_it_should(path)


def test_a_file_that_is_gone_is_no_whole_picture(tmp_path: Path) -> None:
    assert not can_be_decoded(tmp_path / "none.png")
    assert not ends_as_it_should(tmp_path / "none.png")
