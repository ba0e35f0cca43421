"""Class names: where they come from, and what a labels file may hold."""

import os
from pathlib import Path

import pytest

from models.errors import ModelError, PathNotAllowedError
from service.repository.labels import MAX_BYTES, ClassNames


def found(folder: Path, labels: Path | None = None, classes: int = 2) -> ClassNames:
    return ClassNames.find(labels, config=folder / "config.yaml", num_classes=classes)


def refusal(folder: Path, content: bytes, classes: int = 2) -> ModelError:
    (folder / "names.txt").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        found(folder, folder / "names.txt", classes)
    return caught.value


def test_without_any_file_names_are_placeholders(tmp_path: Path) -> None:
    assert found(tmp_path) == ClassNames(("class_0", "class_1"), "placeholder")


def test_labels_txt_beside_the_config_is_found(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert found(tmp_path) == ClassNames(("cat", "dog"), "labels.txt")


def test_a_named_file_wins_over_the_one_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "names.txt").write_text("car\nbus\n")
    assert found(tmp_path, tmp_path / "names.txt") == ClassNames(("car", "bus"), "names.txt")


@pytest.mark.parametrize(
    "content",
    [
        "star, red\nå b\n",
        "star, red\r\nå b\r\n",
        "\ufeffstar, red\nå b",
        "  star, red \n\tå b\n\n\n",
    ],
)
def test_names_may_hold_commas_spaces_and_any_script(tmp_path: Path, content: str) -> None:
    (tmp_path / "labels.txt").write_bytes(content.encode())
    assert found(tmp_path).names == ("star, red", "å b")


def test_a_wrong_number_of_names_is_refused_with_both_numbers(tmp_path: Path) -> None:
    error = refusal(tmp_path, b"cat\ndog\nbird\n")
    assert error.details == {"names": 3, "classes": 2}
    assert "3 names" in error.message
    assert "2 classes" in error.message


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "0 names"),
        (b"cat\n\ndog\n", "Line 2"),
        (b"cat\ncat\n", "'cat' twice"),
        (b"\xff\xfe\n", "not UTF-8"),
        (b"x" * (MAX_BYTES + 1), str(MAX_BYTES)),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_the_reason(
    tmp_path: Path, content: bytes, part: str
) -> None:
    message = refusal(tmp_path, content).message
    assert part in message
    assert "names.txt" in message
    assert str(tmp_path) not in message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.txt cannot be read: No such file"):
        found(tmp_path, tmp_path / "nowhere.txt")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: it is a folder"):
        found(tmp_path, tmp_path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "names.txt")
    with pytest.raises(ModelError, match="cannot be read: it is a pipe"):
        found(tmp_path, tmp_path / "names.txt")


def test_names_beside_the_config_stay_under_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("a\nb\nc\n")
    (root / "labels.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(PathNotAllowedError, match="outside the model folder"):
        ClassNames.find(None, config=root / "config.yaml", num_classes=3, root=root)
    trusted = ClassNames.find(None, config=root / "config.yaml", num_classes=3)
    assert trusted.names == ("a", "b", "c")
