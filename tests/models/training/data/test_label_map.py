"""Files that say which name of the data is which class of the model."""

from pathlib import Path

import pytest

from models.training.data.classes import read_class_names, read_label_map
from models.training.data.errors import DataError


@pytest.mark.parametrize(
    ("name", "text"),
    [("map.yaml", "Katze: cat\nHund: dog\n"), ("map.json", '{"Katze": "cat", "Hund": "dog"}')],
)
def test_yaml_and_json_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_label_map(tmp_path / name) == {"Katze": "cat", "Hund": "dog"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("map.yaml", "- cat", "a label map has lines 'name in the data: name in the model'"),
        ("map.yaml", "yes: cat", "stand in quotes"),
        ("map.yaml", "cat: 3", "stand in quotes"),
        ("map.yaml", "a: !!python/object/apply:os.getcwd []", "is no label map"),
        ("map.yaml", "a: [", "is no label map"),
        ("map.json", "{", "is no label map"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        read_label_map(tmp_path / name)


def test_files_that_are_missing_or_huge(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"map\.yaml cannot be read"):
        read_label_map(tmp_path / "map.yaml")
    (tmp_path / "map.yaml").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(DataError, match="over 1048576 bytes"):
        read_label_map(tmp_path / "map.yaml")


def test_class_names_are_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("cat\n\n hot dog \n")
    assert read_class_names(path) == ("cat", "hot dog")
    for wrong in ("", "cat\ncat\n"):
        path.write_text(wrong)
        with pytest.raises(DataError, match="one name a line"):
            read_class_names(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="no UTF-8 text"):
        read_class_names(path)
