"""find_images: files, folders and patterns on the command line."""

from pathlib import Path

import pytest

from service.batches.sources import ImageFiles, find_images
from service.errors import ApiError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "deep/c.tif", "deep/.git/d.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def names(folder: Path, *places: str, recursive: bool = False) -> list[str]:
    found = find_images([folder / place for place in places], recursive=recursive)
    return [str(path.relative_to(folder)) for path in found]


def test_a_folder_gives_its_images_by_name(folder: Path) -> None:
    assert names(folder, "") == ["a.png", "b.JPG"]
    assert names(folder, "", recursive=True) == ["a.png", "b.JPG", "deep/c.tif"]


def test_a_folder_that_is_left_out_is_so_unless_it_is_the_one(folder: Path) -> None:
    found = find_images([folder], recursive=True, leave_out=folder / "deep")
    assert [path.name for path in found] == ["a.png", "b.JPG"]
    found = find_images([folder / "deep"], leave_out=folder / "deep")
    assert [path.name for path in found] == ["c.tif"]


def test_files_are_taken_as_they_are_and_each_once(folder: Path) -> None:
    places = ("notes.txt", "missing.jpg", "", "a.png", "*.png")
    assert names(folder, *places) == ["notes.txt", "missing.jpg", "a.png", "b.JPG", ".hidden.png"]


def test_patterns_are_for_shells_that_know_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert names(folder, "**/*.tif") == ["deep/c.tif"]
    monkeypatch.chdir(folder)
    assert find_images([Path("*.JPG")]) == [Path("b.JPG")]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(folder: Path) -> None:
    (folder / "a[1].png").touch()
    assert names(folder, "a[1].png") == ["a[1].png"]


@pytest.mark.parametrize(("place", "hint"), [("empty", "--recursive"), ("*.webp", "")])
def test_nothing_there_is_told(folder: Path, place: str, hint: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ApiError) as caught:
        names(folder, place)
    assert caught.value.code == "no_images"
    assert hint in caught.value.message


def test_files_are_read_by_their_place(folder: Path) -> None:
    source = ImageFiles([folder / "a.png", folder / "b.JPG"])
    assert (list(source.names), source.read(1)) == (["a.png", "b.JPG"], b"b.JPG")
    with pytest.raises(FileNotFoundError):
        ImageFiles([folder / "missing"]).read(0)
