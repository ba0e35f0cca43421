"""Which pictures count as the same."""

from pathlib import Path

from PIL import Image
from training_files import paint

from models.training.data.duplicates import look_alikes, same_files, same_files_within


def test_equal_bytes_are_found_whatever_the_name(tmp_path: Path) -> None:
    one, two = paint(tmp_path / "a.png", 1), paint(tmp_path / "b.png", 2)
    copy = tmp_path / "sub" / "c.png"
    copy.parent.mkdir()
    copy.write_bytes(one.read_bytes())
    assert same_files([two, one], [copy]) == [(1, 0)]
    assert same_files([two], [copy]) == []
    assert same_files_within([one, two, copy, one]) == [(0, 2), (0, 3)]


def test_files_of_one_size_are_not_the_same_for_that(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(path.name.encode() * 10)
    assert same_files(paths[:1], paths[1:]) == []
    assert same_files_within(paths) == []


def test_missing_files_are_passed_over(tmp_path: Path) -> None:
    one = paint(tmp_path / "a.png", 1)
    missing = tmp_path / "missing.png"
    assert same_files([missing, one], [one, missing]) == [(1, 0)]
    assert look_alikes([missing, one], [one]) == [(1, 0)]


def test_a_picture_that_was_saved_again_or_resized_looks_the_same(tmp_path: Path) -> None:
    one = paint(tmp_path / "a.png", 1, size=(320, 240))
    with Image.open(one) as picture:
        picture.save(tmp_path / "b.jpg", quality=85)
        picture.resize((160, 120)).save(tmp_path / "c.webp")
    others = [paint(tmp_path / f"{seed}.png", seed, size=(320, 240)) for seed in range(2, 8)]
    assert look_alikes([tmp_path / "b.jpg", tmp_path / "c.webp"], [*others, one]) == [
        (0, 6),
        (1, 6),
    ]
    assert look_alikes(others, [one]) == []


def test_pictures_of_one_colour_are_not_compared(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 40), "white").save(tmp_path / name)
    assert look_alikes([tmp_path / "a.png"], [tmp_path / "b.png"]) == []
