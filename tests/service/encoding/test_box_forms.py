"""Boxes in every form."""

import pytest
import torch

from models.structures import Boxes, RotatedBoxes
from service.encoding.boxes import BoxForm, encode_boxes

BOXES = Boxes(torch.tensor([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 40.0, 80.0]]))


@pytest.mark.parametrize(
    ("form", "mode", "expected"),
    [
        ("xyxy", "XYXY_ABS", [[10, 20, 30, 60], [0, 0, 40, 80]]),
        ("xywh", "XYWH_ABS", [[10, 20, 20, 40], [0, 0, 40, 80]]),
        ("normalized", "XYXY_REL", [[0.25, 0.25, 0.75, 0.75], [0, 0, 1, 1]]),
    ],
)
def test_boxes_are_what_their_mode_says(
    form: BoxForm, mode: str, expected: list[list[float]]
) -> None:
    found, boxes = encode_boxes(BOXES, (80, 40), form)
    assert found == mode
    assert boxes.tolist() == expected
    assert boxes.flags.c_contiguous
    assert BOXES.tensor[0].tolist() == [10, 20, 30, 60]


@pytest.mark.parametrize("form", ["xyxy", "xywh", "normalized"])
def test_rotated_boxes_keep_their_form(form: BoxForm) -> None:
    boxes = RotatedBoxes(torch.tensor([[20.0, 10.0, 8.0, 4.0, 30.0]]))
    mode, array = encode_boxes(boxes, (80, 40), form)
    assert mode == "XYWHA_ABS"
    assert array.tolist() == boxes.tensor.tolist()


@pytest.mark.parametrize("form", ["xyxy", "xywh", "normalized"])
def test_no_boxes_are_none_in_every_form(form: BoxForm) -> None:
    assert encode_boxes(Boxes(torch.zeros(0, 4)), (80, 40), form)[1].shape == (0, 4)
