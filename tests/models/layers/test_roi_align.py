"""ROIAlign against a slow NumPy reference of its definition (Mask R-CNN, §3)."""

import math

import numpy as np
import pytest
import torch

from models.layers import ROIAlign


def bilinear(feature: np.ndarray, y: float, x: float) -> np.ndarray:
    """(C,) values between four pixels; 0 further than one pixel outside."""
    _, height, width = feature.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(len(feature))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dy, dx = y - y0, x - x0
    top = feature[:, y0, x0] * (1 - dx) + feature[:, y0, x1] * dx
    bottom = feature[:, y1, x0] * (1 - dx) + feature[:, y1, x1] * dx
    return top * (1 - dy) + bottom * dy


def slow_roi_align(
    feature: np.ndarray,
    box: list[float],
    output_size: tuple[int, int],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> np.ndarray:
    """Each bin is the mean of a regular grid of bilinear samples."""
    offset = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (value * scale - offset for value in box)
    width, height = x2 - x1, y2 - y1
    if not aligned:  # the first version gave no RoI less than one pixel
        width, height = max(width, 1.0), max(height, 1.0)
    rows, columns = output_size
    samples_y = sampling_ratio or math.ceil(height / rows)
    samples_x = sampling_ratio or math.ceil(width / columns)
    output = np.zeros((len(feature), rows, columns))
    for i in range(rows):
        for j in range(columns):
            values = [
                bilinear(
                    feature,
                    y1 + (i + (a + 0.5) / samples_y) * height / rows,
                    x1 + (j + (b + 0.5) / samples_x) * width / columns,
                )
                for a in range(samples_y)
                for b in range(samples_x)
            ]
            output[:, i, j] = np.mean(values, axis=0)
    return output


BOXES = {
    "inside": [8.0, 4.0, 30.0, 20.0],
    "fractional": [3.3, 5.7, 25.1, 29.9],
    "over the border": [-10.0, -6.0, 20.0, 50.0],
    "smaller than a pixel of the feature": [10.0, 10.0, 11.0, 12.0],
}


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_pooled_values_equal_the_slow_reference(
    box: list[float], sampling_ratio: int, aligned: bool
) -> None:
    features = np.random.default_rng(0).standard_normal((2, 3, 9, 11))
    layer = ROIAlign((2, 3), 0.25, sampling_ratio, aligned)
    pooled = layer(torch.tensor(features, dtype=torch.float32), torch.tensor([[1.0, *box]]))
    expected = slow_roi_align(features[1], box, (2, 3), 0.25, sampling_ratio, aligned)
    np.testing.assert_allclose(pooled[0].numpy(), expected, atol=1e-5)


def test_aligned_samples_lie_on_pixel_centres() -> None:
    features = torch.arange(16.0).view(1, 1, 4, 4)
    layer = ROIAlign((4, 4), 1.0, 1, aligned=True)
    pooled = layer(features, torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]]))
    assert torch.equal(pooled, features)


def test_no_rois_give_an_empty_output() -> None:
    assert ROIAlign((7, 7), 1.0, 0)(torch.zeros(1, 3, 4, 4), torch.zeros(0, 5)).shape == (
        0,
        3,
        7,
        7,
    )


def test_rois_take_the_dtype_of_the_features() -> None:
    features = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    pooled = ROIAlign((2, 2), 1.0, 0)(features, torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]]))
    assert pooled.dtype == torch.float64
