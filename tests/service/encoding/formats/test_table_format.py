"""CSV: what a spreadsheet and RFC 4180 make of it."""

import numpy as np
import pytest

from service.encoding.formats.table import as_text, upright_boxes


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", '=HYPERLINK("x")']
)
def test_a_name_that_could_be_a_formula_is_text(name: str) -> None:
    assert as_text(name) == f"'{name}"


@pytest.mark.parametrize("name", ["photo.jpg", "a-b", "1=2", "", "'=1", 'a "b", c'])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert as_text(name) == name


def test_rotated_boxes_have_upright_ones_around_them() -> None:
    polygons = np.array([[[3, 0], [6, 3], [3, 6], [0, 3]]], dtype=np.float32)
    boxes = upright_boxes({"polygons": polygons, "pred_boxes": np.zeros((1, 5))})
    assert boxes.tolist() == [[0, 0, 6, 6]]


def test_no_rotated_boxes_have_none_around_them() -> None:
    empty = {"polygons": np.zeros((0, 4, 2), dtype=np.float32), "pred_boxes": np.zeros((0, 5))}
    assert upright_boxes(empty).shape == (0, 4)
