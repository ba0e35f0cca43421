"""Short names in a file, full names in a model."""

import pytest

from models.checkpoints.matching import match_by_suffix
from models.errors import CheckpointError


def test_a_name_matches_at_a_dot_only() -> None:
    model = ["a.mask_fcn1.weight", "b.fcn1.weight"]
    assert match_by_suffix(model=model, file=["fcn1.weight"]) == {"fcn1.weight": "b.fcn1.weight"}


def test_an_equal_name_matches() -> None:
    assert match_by_suffix(model=["a.b"], file=["a.b"]) == {"a.b": "a.b"}


def test_the_longest_suffix_wins() -> None:
    found = match_by_suffix(
        model=["body.conv1.weight", "body.res2.conv1.weight"],
        file=["conv1.weight", "res2.conv1.weight"],
    )
    assert found == {
        "conv1.weight": "body.conv1.weight",
        "res2.conv1.weight": "body.res2.conv1.weight",
    }


def test_names_that_nothing_takes_are_left_out() -> None:
    assert match_by_suffix(model=["a.b"], file=["c", "a.b.c"]) == {}
    assert match_by_suffix(model=[], file=["c"]) == {}


def test_one_name_for_two_tensors_is_refused_and_listed() -> None:
    with pytest.raises(CheckpointError, match=r"w could be h\.0\.w or h\.1\.w") as caught:
        match_by_suffix(model=["h.1.w", "h.0.w"], file=["w"])
    assert caught.value.details["ambiguous"] == {"w": ["h.0.w", "h.1.w"]}


def test_a_long_list_is_cut() -> None:
    model = [f"{side}.w{i}" for i in range(25) for side in "ab"]
    with pytest.raises(CheckpointError, match="and 5 more"):
        match_by_suffix(model=model, file=[f"w{i}" for i in range(25)])
