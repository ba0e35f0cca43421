"""``keypoints.json``: what is written is read again, and what is wrong with one is said."""

from pathlib import Path

import pytest

from models.errors import ModelError
from models.sidecars import MAX_BYTES, KeypointNames

NAMES = KeypointNames(
    ("näse", "left_eye", "right_eye"),
    (("left_eye", "right_eye"),),
    (("left_eye", "näse"), ("näse", "right_eye")),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "keypoints.json"
    path.write_text(NAMES.to_json(), encoding="utf-8")
    assert KeypointNames.read(path) == NAMES


def test_names_alone_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "keypoints.json"
    path.write_text('{"names": ["bow", "stern"], "skeleton": null}')
    assert KeypointNames.read(path) == KeypointNames(("bow", "stern"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("\xff", "it is no JSON"),
        ('["a"]', "it is no JSON object"),
        ("{}", "its names are not a list of different names"),
        ('{"names": []}', "its names are not"),
        ('{"names": ["a", "a"]}', "its names are not"),
        ('{"names": ["a", 1]}', "its names are not"),
        ('{"names": ["a", [1]]}', "its names are not"),
        ('{"names": ["a", "b"], "flip_map": [["a"]]}', "its flip_map is not a list of pairs"),
        ('{"names": ["a", "b"], "flip_map": [["a", "c"]]}', "its flip_map is not"),
        ('{"names": ["a", "b"], "skeleton": [[0, 1]]}', "its skeleton is not a list of pairs"),
        ('{"names": ["a", "b"], "skeleton": 3}', "its skeleton is not"),
        (
            '{"names": ["a", "b", "c"], "flip_map": [["a", "b"], ["a", "c"]]}',
            "its flip_map has a keypoint twice",
        ),
        (" " * (MAX_BYTES + 1), "at most"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "keypoints.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelError, match=r"keypoints\.json does not name keypoints") as caught:
        KeypointNames.read(path)
    assert reason in caught.value.message


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: it is a folder"):
        KeypointNames.read(tmp_path)
