"""Names, mirror pairs and lines of keypoints."""

from typing import Any

import pytest
from training_files import TrainingFiles, codes

from models.training.data.dataset import TrainingDataset
from models.training.data.errors import DataError
from models.training.data.keypoint_schema import derive_flip_map


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["nose", "left_eye", "right_eye"], (("left_eye", "right_eye"),)),
        (["R-Knee", "L-Knee"], (("L-Knee", "R-Knee"),)),
        (["eye.right", "eye.left", "tip"], (("eye.left", "eye.right"),)),
        (["RightHand", "LeftHand"], (("LeftHand", "RightHand"),)),
        (["left_eye", "nose"], None),
        (["top", "bottom", "lid"], None),
        ([], None),
    ],
)
def test_left_and_right_are_told_from_names(names: list[str], pairs: Any) -> None:
    assert derive_flip_map(names) == pairs


def test_names_skeleton_and_swaps_come_from_the_category(files: TrainingFiles) -> None:
    files.give_keypoints(3, keypoints=["a", "b", "c"], skeleton=[[1, 2]], flip_map=[["a", "c"]])
    dataset = files.read()
    assert dataset.keypoint_names == ("a", "b", "c")
    assert dataset.keypoint_skeleton == (("a", "b"),)
    assert dataset.keypoint_flip_map == (("a", "c"),)
    assert dataset.flip_permutation() == (2, 1, 0)
    assert dataset.has_keypoints


def test_an_empty_flip_map_says_that_nothing_swaps(files: TrainingFiles) -> None:
    files.give_keypoints(2, keypoints=["a", "b"], flip_map=[])
    assert files.read().flip_permutation() == (0, 1)


def test_without_names_17_are_cocos_and_others_have_no_flip_map(files: TrainingFiles) -> None:
    files.give_keypoints(17)
    dataset = files.read()
    assert dataset.keypoint_names[:3] == ("nose", "left_eye", "right_eye")
    permutation = dataset.flip_permutation()
    assert permutation is not None
    assert permutation[:5] == (0, 2, 1, 4, 3)
    files.give_keypoints(2)
    dataset = files.read()
    assert dataset.keypoint_names == ("keypoint_1", "keypoint_2")
    assert dataset.flip_permutation() is None


def test_without_keypoints_there_is_no_permutation(files: TrainingFiles) -> None:
    assert files.read().flip_permutation() is None
    assert TrainingDataset("a", ("b",), ()).flip_permutation() is None


def test_objects_with_another_number_are_an_error(files: TrainingFiles) -> None:
    files.give_keypoints(2, keypoints=["left_a", "right_a"])
    files.content["annotations"][2]["keypoints"] = [1, 1, 2]
    dataset = files.read()
    assert "error keypoints-count" in codes(dataset)
    assert dataset.findings[-1].examples == ("two.png: 1 instead of 2",)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"keypoints": ["a", "a"]}, "they are a list of different names"),
        ({"keypoints": "ab"}, "they are a list of different names"),
        ({"keypoints": ["a", "b"], "flip_map": [["a", "z"]]}, "z is none of the keypoints"),
        ({"keypoints": ["a", "b"], "flip_map": [["a", "b"], ["b", "a"]]}, "there twice"),
        ({"keypoints": ["a", "b"], "flip_map": {"a": "b"}}, "a list of pairs"),
        (
            {"keypoints": ["a", "b"], "skeleton": [[0, 1]]},
            "pairs of the numbers of keypoints, 1 to",
        ),
        ({"keypoints": ["a", "b"], "skeleton": 3}, "pairs of the numbers"),
    ],
)
def test_schemas_that_cannot_be(files: TrainingFiles, fields: Any, said: str) -> None:
    files.give_keypoints(2, **fields)
    with pytest.raises(DataError, match=said):
        files.read()


def test_categories_with_different_keypoints_are_refused(files: TrainingFiles) -> None:
    files.give_keypoints(2, keypoints=["a", "b"])
    files.content["categories"][0]["keypoints"] = ["b", "a"]
    with pytest.raises(DataError, match="cat and dog have different keypoints"):
        files.read()
