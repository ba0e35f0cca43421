"""Options: the server's, typed, in the query or in JSON."""

import json
from typing import Any

import numpy as np
import pytest

from service.client.options import PredictOptions, json_body, split_options
from service.schemas import options as server

LEFT_OUT = {"boxes", "format"}
"""How an answer is written, which is the client's affair: it always has arrays."""


def test_every_option_of_the_server_is_a_keyword() -> None:
    known = set(PredictOptions.__annotations__)
    assert known == set(server.PredictOptions.model_fields) - LEFT_OUT


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ({}, []),
        ({"model": None, "score_threshold": None}, []),
        ({"score_threshold": 0.5, "version": 2}, [("score_threshold", "0.5"), ("version", "2")]),
        ({"tta_flip": True}, [("tta_flip", "true")]),
        ({"tta_flip": False}, [("tta_flip", "false")]),
        ({"region": (10, 20.5, 110, 220)}, [("region", "10,20.5,110,220")]),
        ({"include": ["keypoints", "sem_seg"]}, [("include", "keypoints,sem_seg")]),
        ({"include": []}, [("include", "")]),
        ({"tta": [400, 600]}, [("tta", "400,600")]),
        ({"classes": "star, red"}, [("classes", "star, red")]),
        ({"classes": ["disc", "star"]}, [("classes", "disc"), ("classes", "star")]),
        ({"score_threshold": np.float32(0.5)}, [("score_threshold", "0.5")]),
    ],
)
def test_plain_values_go_into_the_query(
    options: dict[str, Any], query: list[tuple[str, str]]
) -> None:
    assert split_options(options) == (query, {})


@pytest.mark.parametrize(
    ("options", "nested"),
    [
        ({"classes": 1}, {"classes": [1]}),
        ({"classes": [1, "disc"]}, {"classes": [1, "disc"]}),
        ({"class_thresholds": {"disc": 0.5}}, {"class_thresholds": {"disc": 0.5}}),
        ({"classes": np.array([1, 2])}, {"classes": [1, 2]}),
        ({"classes": []}, {"classes": []}),
        ({"proposals": [[[0, 0, 5, 5]]]}, {"proposals": [[[0, 0, 5, 5]]]}),
    ],
)
def test_what_text_cannot_say_goes_into_json(
    options: dict[str, Any], nested: dict[str, Any]
) -> None:
    assert split_options(options) == ([], nested)


def test_a_json_body_holds_images_and_arrays() -> None:
    boxes = [np.array([[0, 0, 5, 5]], dtype=np.float32)]
    body = json.loads(json_body([("a.jpg", b"\x00\xff", "image/jpeg")], {"proposals": boxes}))
    assert body == {
        "images": [{"name": "a.jpg", "data": "AP8="}],
        "proposals": [[[0.0, 0.0, 5.0, 5.0]]],
    }


def test_an_unknown_option_is_named_before_anything_is_sent() -> None:
    with pytest.raises(TypeError, match="no option 'treshold'; there are: model, version"):
        split_options({"treshold": 0.5})


@pytest.mark.parametrize("form", ["polygon", "png", "bitmap"])
def test_masks_that_the_client_does_not_read_are_refused_before_anything_is_sent(form: str) -> None:
    with pytest.raises(ValueError, match="'rle' or 'none'"):
        split_options({"masks": form})
