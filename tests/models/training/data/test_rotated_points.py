"""Rotated boxes as points and back."""

import torch

from models import RotatedBoxes
from models.training.data.rotated_points import points_to_rotated, rotated_to_points

BOXES = torch.tensor(
    [[10.0, 20, 8, 4, 0], [30, 40, 6, 12, 30], [5, 5, 3, 9, -120], [7, 9, 2, 1, 90]]
).double()


def test_there_and_back() -> None:
    assert torch.allclose(points_to_rotated(rotated_to_points(BOXES)), BOXES)


def test_points_are_middles_of_the_sides() -> None:
    corners = RotatedBoxes(BOXES).polygons().double()
    points = rotated_to_points(BOXES)
    assert torch.allclose(points[:, 1], (corners[:, 1] + corners[:, 2]) / 2, atol=1e-4)
    assert torch.allclose(points[:, 2], (corners[:, 2] + corners[:, 3]) / 2, atol=1e-4)


def test_uneven_scaling_is_that_of_the_boxes() -> None:
    scaled = RotatedBoxes(BOXES)
    scaled.scale(1.5, 0.75)
    points = rotated_to_points(BOXES) * torch.tensor([1.5, 0.75])
    assert torch.allclose(points_to_rotated(points), scaled.tensor.double(), atol=1e-4)


def test_no_boxes_are_no_points() -> None:
    assert rotated_to_points(torch.empty(0, 5)).shape == (0, 3, 2)
    assert points_to_rotated(torch.empty(0, 3, 2)).shape == (0, 5)
