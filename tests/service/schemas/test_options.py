"""The options of a prediction: what is taken from query, form or JSON, and what is refused."""

from typing import Any

import pytest

from service.errors import Unprocessable
from service.schemas.options import MAX_CLASSES, PredictOptions


def refusal(**values: Any) -> Unprocessable:
    with pytest.raises(Unprocessable) as caught:
        PredictOptions.parse(values)
    return caught.value


def test_without_options_all_is_the_models_own() -> None:
    options = PredictOptions.parse({})
    assert options.model_dump() == {
        "model": None, "score_threshold": None, "max_detections": None, "classes": None,
        "masks": "rle",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "value"), [("0.5", 0.5), (0.5, 0.5), ("0", 0.0), (1, 1.0), ("1e-1", 0.1)]
)
def test_a_threshold_is_a_number_or_its_text(given: object, value: float) -> None:
    assert PredictOptions.parse({"score_threshold": given}).score_threshold == value


@pytest.mark.parametrize("given", ["3", 3])
def test_a_cap_is_a_whole_number_or_its_text(given: object) -> None:
    assert PredictOptions.parse({"max_detections": given}).max_detections == 3


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("disc", ["disc"]),
        ("disc,star", ["disc,star"]),  # split by the model, whose names may hold commas
        (2, ["2"]),
        (["disc", 2], ["disc", "2"]),
        ([], []),
        (None, None),
    ],
)
def test_classes_are_one_or_several_names_or_ids(given: object, value: list[str] | None) -> None:
    assert PredictOptions.parse({"classes": given}).classes == value


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("score_threshold", "high"),
        ("score_threshold", ""),
        ("score_threshold", -0.1),
        ("score_threshold", 1.1),
        ("score_threshold", "nan"),
        ("score_threshold", "inf"),
        ("score_threshold", ["0.5", "0.6"]),
        ("max_detections", 0),
        ("max_detections", -1),
        ("max_detections", 1.5),
        ("max_detections", "many"),
        ("masks", "polygon"),
        ("masks", ["rle", "none"]),
        ("classes", True),
        ("classes", [1.5]),
        ("classes", [{"id": 1}]),
        ("classes", ["x" * 1001]),
        ("classes", ["x"] * (MAX_CLASSES + 1)),
        ("model", "m" * 65),
        ("model", 3),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_option(option: str, value: object) -> None:
    error = refusal(**{option: value})
    assert (error.status, error.code) == (422, "invalid_option")
    assert error.details == {"option": option}
    assert error.message.startswith(f"Option {option} cannot be ")
    assert len(error.message) < 300


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    error = refusal(threshold=0.5)
    assert error.code == "unknown_option"
    assert error.details["option"] == "threshold"
    assert error.details["known"] == list(PredictOptions.model_fields)


def test_a_long_unknown_option_is_not_echoed_in_full() -> None:
    assert len(refusal(**{"x" * 10_000: 1}).message) < 300
