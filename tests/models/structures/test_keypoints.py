"""From heatmaps to keypoints, against a slow reference of the sub-pixel rule."""

import math

import numpy as np
import pytest
import torch

from models.structures.keypoints import heatmaps_to_keypoints


def cubic_weight(distance: float) -> float:
    """Keys' cubic convolution with a = -0.75."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def resize_matrix(source: int, target: int) -> np.ndarray:
    """(target, source): bicubic with half-pixel centres, the border repeated."""
    matrix = np.zeros((target, source))
    for i in range(target):
        position = (i + 0.5) * source / target - 0.5
        first = math.floor(position) - 1
        for j in range(first, first + 4):
            matrix[i, min(max(j, 0), source - 1)] += cubic_weight(position - j)
    return matrix


def slow_keypoint(heatmap: np.ndarray, box: list[float]) -> tuple[float, float, float]:
    """Resize to the box in whole pixels, take the best pixel's centre, and its probability."""
    x1, y1, x2, y2 = box
    width, height = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
    columns, rows = math.ceil(width), math.ceil(height)
    size = len(heatmap)
    resized = resize_matrix(size, rows) @ heatmap @ resize_matrix(size, columns).T
    row, column = np.unravel_index(resized.argmax(), resized.shape)
    score = 1 / np.exp(heatmap - resized.max()).sum()
    x = (column + 0.5) * width / columns + x1
    y = (row + 0.5) * height / rows + y1
    return x, y, score


BOXES = [
    [10.0, 20.0, 43.0, 77.0],
    [10.3, 20.7, 40.2, 50.9],
    [-5.5, 3.25, 100.1, 200.6],
    [7.0, 8.0, 7.4, 30.0],  # thinner than a pixel
    [1.0, 1.0, 1.0, 1.0],  # a point
    [30.2, 5.1, 35.0, 9.9],  # smaller than the heatmap
]


def heatmaps(size: int = 14) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(BOXES), 3, size, size, generator=generator) * 3


def test_positions_and_scores_equal_the_slow_reference() -> None:
    maps = heatmaps()
    keypoints = heatmaps_to_keypoints(maps, torch.tensor(BOXES))
    assert keypoints.shape == (len(BOXES), 3, 3)
    for i, box in enumerate(BOXES):
        expected = [slow_keypoint(heatmap.double().numpy(), box) for heatmap in maps[i]]
        np.testing.assert_allclose(keypoints[i].numpy(), expected, rtol=1e-3, atol=1e-3)


def test_a_position_is_finer_than_the_heatmap() -> None:
    maps = torch.full((1, 1, 4, 4), -5.0)
    maps[0, 0, 1, 1], maps[0, 0, 1, 2] = 2.0, 1.9
    (x, y, _) = heatmaps_to_keypoints(maps, torch.tensor([[0.0, 0.0, 64.0, 64.0]]))[0, 0].tolist()
    assert 24 < x < 40  # the cell's own centre is 24: its neighbour draws it to the right
    assert y == pytest.approx(24, abs=1)


def test_the_fraction_of_a_pixel_scales_the_position() -> None:
    maps = torch.full((1, 1, 2, 2), -5.0)
    maps[0, 0, 1, 1] = 5.0
    box = torch.tensor([[0.0, 0.0, 1.5, 1.5]])  # two pixels of three quarters each
    assert heatmaps_to_keypoints(maps, box)[0, 0, :2].tolist() == pytest.approx([1.125, 1.125])


def test_no_boxes_have_no_keypoints() -> None:
    assert heatmaps_to_keypoints(torch.zeros(0, 17, 56, 56), torch.zeros(0, 4)).shape == (0, 17, 3)


def test_the_heatmaps_stay_as_they_are() -> None:
    maps = heatmaps()
    heatmaps_to_keypoints(maps, torch.tensor(BOXES))
    assert torch.equal(maps, heatmaps())
