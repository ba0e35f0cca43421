"""Thresholds of single classes, and of NMS: what is taken from query, form or JSON, and what is refused."""

from typing import Any

import pytest

from service.errors import Unprocessable
from service.schemas.options import PredictOptions
from service.schemas.threshold_options import MAX_THRESHOLDS


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"disc": 0.7, "star": 0.4}, {"disc": 0.7, "star": 0.4}),
        ({"disc": "0.7", "2": 1}, {"disc": 0.7, "2": 1.0}),
        ("disc:0.7,star:0.4", {"disc": 0.7, "star": 0.4}),
        (" disc : 0.7 , 2 : 0 ", {"disc": 0.7, "2": 0.0}),
        ("star, red:0.5,disc:0.1", {"star, red": 0.5, "disc": 0.1}),
        ("a:b:0.5", {"a:b": 0.5}),
        ("a:b,c:0.5", {"a:b,c": 0.5}),
        ('{"star, red:0.2,x": 0.5}', {"star, red:0.2,x": 0.5}),
        ({}, {}),
        ("{}", {}),
        (None, None),
    ],
)
def test_class_thresholds_are_an_object_or_text(given: Any, value: Any) -> None:
    assert PredictOptions.parse({"class_thresholds": given}).class_thresholds == value


@pytest.mark.parametrize(
    "given",
    [
        "", "disc", "disc:", "disc:high", "disc:0.5,", "disc:0.5,star", ",", ":", "disc:1.1", "disc:-0.1",
        "disc:nan", "disc:inf", "disc:0.5,disc:0.6", "{", '{"disc": 2}', '{"disc": null}', "{]",
        {"disc": True}, {"disc": None}, {"disc": [0.5]}, {1: 0.5}, ["disc", 0.5], 0.5, True,
        {str(i): 0.5 for i in range(MAX_THRESHOLDS + 1)}, ",".join(["x"] * 100_000), " " * 100_000,
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_a_sentence(given: Any) -> None:
    with pytest.raises(Unprocessable) as caught:
        PredictOptions.parse({"class_thresholds": given})
    assert caught.value.code == "invalid_option"
    assert caught.value.details == {"option": "class_thresholds"}
    assert len(caught.value.message) < 400


def test_a_text_of_the_wrong_form_is_told_the_right_ones() -> None:
    with pytest.raises(
        Unprocessable, match=r'JSON object such as \{"disc": 0.7\}, or text such as'
    ):
        PredictOptions.parse({"class_thresholds": "disc=0.5"})


@pytest.mark.parametrize(("given", "value"), [("0.3", 0.3), (0, 0.0), (1, 1.0), (None, None)])
def test_the_threshold_of_nms_is_a_number_from_0_to_1(given: Any, value: float | None) -> None:
    assert PredictOptions.parse({"nms_threshold": given}).nms_threshold == value


@pytest.mark.parametrize("given", ["", "low", -0.1, 1.1, "nan", "inf", True, [0.5]])
def test_another_threshold_of_nms_is_refused(given: Any) -> None:
    with pytest.raises(Unprocessable) as caught:
        PredictOptions.parse({"nms_threshold": given})
    assert caught.value.details == {"option": "nms_threshold"}
