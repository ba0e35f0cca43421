"""IoU of rotated boxes: by analysis, and against clipping one polygon with the other."""

import math

import pytest
import torch
from torch import Tensor

import models.layers.rotated_iou as rotated_iou
from models.layers import pairwise_iou_rotated
from models.layers.rotated_iou import enclosing_boxes, overlapping_pairs

Point = tuple[float, float]


def corners(box: list[float]) -> list[Point]:
    x, y, w, h, angle = box
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    local = [(-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2)]
    return [(x + u * cos + v * sin, y + v * cos - u * sin) for u, v in local]


def polygon_area(points: list[Point]) -> float:
    shifted = points[1:] + points[:1]
    return sum(ax * by - ay * bx for (ax, ay), (bx, by) in zip(points, shifted, strict=True)) / 2


def clipped_by_line(points: list[Point], start: Point, end: Point) -> list[Point]:
    """The part of a polygon to one side of a line (Sutherland and Hodgman)."""

    def side(point: Point) -> float:
        along, to = (
            (end[0] - start[0], end[1] - start[1]),
            (point[0] - start[0], point[1] - start[1]),
        )
        return along[0] * to[1] - along[1] * to[0]

    result = []
    for a, b in zip(points, points[1:] + points[:1], strict=True):
        at_a, at_b = side(a), side(b)
        if at_a >= 0:
            result.append(a)
        if (at_a > 0 > at_b) or (at_a < 0 < at_b):
            t = at_a / (at_a - at_b)
            result.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
    return result


def slow_iou(first: list[float], second: list[float]) -> float:
    shared, other = corners(first), corners(second)
    for start, end in zip(other, other[1:] + other[:1], strict=True):
        shared = clipped_by_line(shared, start, end)
    area = polygon_area(shared) if shared else 0.0
    return area / (first[2] * first[3] + second[2] * second[3] - area)


def random_boxes(number: int, seed: int, spread: float = 60.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.tensor([0.0, 0.0, 1.0, 1.0, -360.0])
    span = torch.tensor([spread, spread, 50.0, 50.0, 720.0])
    return low + span * torch.rand(number, 5, generator=generator)


def iou(first: list[float], second: list[float]) -> float:
    return float(pairwise_iou_rotated(torch.tensor([first]), torch.tensor([second])))


def test_random_boxes_agree_with_polygon_clipping() -> None:
    first, second = random_boxes(40, 0), random_boxes(50, 1)
    expected = torch.tensor([[slow_iou(a, b) for b in second.tolist()] for a in first.tolist()])
    assert 0.2 < (expected > 0).float().mean() < 0.9
    torch.testing.assert_close(pairwise_iou_rotated(first, second), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("angle", [-90, -45, 0, 30, 45, 90, 180, 270])
def test_boxes_with_sides_in_common_agree_with_polygon_clipping(angle: int) -> None:
    first = [[10, 10, 8, 4, angle], [10, 10, 4, 4, angle], [10, 10, 8, 8, angle + 90]]
    second = [[10, 10, 8, 4, 0], [10, 12, 8, 4, 0], [14, 10, 8, 4, 0], [10, 10, 4, 8, 0]]
    expected = torch.tensor([[slow_iou(a, b) for b in second] for a in first])
    ours = pairwise_iou_rotated(torch.tensor(first).float(), torch.tensor(second).float())
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0, 0, 4, 2, 0], [0, 0, 4, 2, 0], 1.0),  # the same
        ([5, 5, 10, 10, 0], [5, 5, 2, 5, 37], 0.1),  # one contains the other
        ([0, 0, 2, 2, 0], [1, 0, 2, 2, 0], 1 / 3),  # half of each
        ([0, 0, 2, 2, 0], [2, 0, 2, 2, 0], 0.0),  # a side in common
        ([0, 0, 2, 2, 0], [2, 2, 2, 2, 0], 0.0),  # a corner in common
        ([0, 0, 2, 2, 0], [9, 0, 2, 2, 30], 0.0),  # apart
        ([0, 0, 2, 2, 0], [0, 0, 2, 2, 45], 1 / math.sqrt(2)),  # the octagon of two squares
        ([0, 0, 8, 2, 0], [0, 0, 8, 2, 90], 4 / 28),  # a cross
        ([0, 0, 2, 2, 45], [math.sqrt(2), 0, 2, 2, 45], 1 / 7),  # diamonds share a quarter
    ],
)
def test_known_pairs(first: list[float], second: list[float], expected: float) -> None:
    assert iou(first, second) == pytest.approx(expected, abs=1e-6)
    assert iou(second, first) == pytest.approx(expected, abs=1e-6)


def test_every_box_is_identical_to_itself() -> None:
    boxes = random_boxes(200, 2)
    assert (pairwise_iou_rotated(boxes, boxes).diagonal() == 1).all()


def test_almost_identical_boxes_are_almost_identical() -> None:
    boxes = random_boxes(200, 3)
    moved = boxes + 1e-5 * torch.randn(boxes.shape, generator=torch.Generator().manual_seed(0))
    assert pairwise_iou_rotated(boxes, moved).diagonal().min() > 0.9999


@pytest.mark.parametrize("turn", [180.0, -180.0, 360.0, 720.0])
def test_half_turns_change_nothing(turn: float) -> None:
    first, second = random_boxes(30, 4), random_boxes(30, 5)
    turned = first + torch.tensor([0, 0, 0, 0, turn])
    expected = pairwise_iou_rotated(first, second)
    torch.testing.assert_close(pairwise_iou_rotated(turned, second), expected, atol=1e-5, rtol=0)


def test_a_quarter_turn_swaps_the_sides() -> None:
    first, second = random_boxes(30, 6), random_boxes(30, 7)
    swapped = first[:, [0, 1, 3, 2, 4]] + torch.tensor([0, 0, 0, 0, 90.0])
    expected = pairwise_iou_rotated(first, second)
    torch.testing.assert_close(pairwise_iou_rotated(swapped, second), expected, atol=1e-5, rtol=0)


def test_angles_turn_counter_clockwise_on_the_screen() -> None:
    # A bar that is turned by 45 degrees points up right and down left, where y is small and large.
    bar = [0.0, 0.0, 20.0, 2.0, 45.0]
    assert iou(bar, [6.0, -6.0, 1.0, 1.0, 0.0]) > 0
    assert iou(bar, [6.0, 6.0, 1.0, 1.0, 0.0]) == 0


@pytest.mark.parametrize(
    "box", [[5, 5, 0, 4, 20], [5, 5, 4, 0, 20], [5, 5, 0, 0, 0], [5, 5, -4, -4, 0]]
)
def test_boxes_without_area_meet_nothing(box: list[float]) -> None:
    assert iou(box, [5.0, 5.0, 10.0, 10.0, 0.0]) == 0
    assert iou(box, box) == 0


def test_a_broken_box_does_not_spoil_the_others() -> None:
    boxes = random_boxes(5, 8, spread=10.0)
    broken = torch.cat((boxes, torch.full((1, 5), torch.nan), torch.full((1, 5), torch.inf)))
    result = pairwise_iou_rotated(broken, broken)
    torch.testing.assert_close(result[:5, :5], pairwise_iou_rotated(boxes, boxes))
    assert (result[5:] == 0).all()
    assert (result[:, 5:] == 0).all()


def test_far_from_the_origin_is_as_exact_as_near() -> None:
    near = torch.tensor([[0.0, 0.0, 64.0, 32.0, 30.0], [16.0, 8.0, 64.0, 16.0, -45.0]])
    far = near + torch.tensor([65536.0, 65536.0, 0, 0, 0])
    torch.testing.assert_close(
        pairwise_iou_rotated(far, far), pairwise_iou_rotated(near, near), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (3, 0), (0, 0)])
def test_no_boxes(rows: int, columns: int) -> None:
    result = pairwise_iou_rotated(torch.zeros(rows, 5), torch.zeros(columns, 5))
    assert result.shape == (rows, columns)


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        pairwise_iou_rotated(torch.zeros(2, 5), torch.zeros(3, 4))


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("only_later", [False, True])
def test_pairs_are_those_of_the_matrix_that_reach_the_threshold(
    threshold: float, only_later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotated_iou, "CELLS_PER_STEP", 300)
    monkeypatch.setattr(rotated_iou, "PAIRS_PER_STEP", 7)
    boxes = random_boxes(80, 9, spread=20.0)
    matrix = pairwise_iou_rotated(boxes, boxes)
    wanted = matrix >= threshold
    if only_later:
        wanted = wanted.triu(diagonal=1)
    blocks = list(overlapping_pairs(boxes, boxes, threshold, only_later=only_later))
    assert len(blocks) > 1
    row, column, value = (torch.cat(part) for part in zip(*blocks, strict=True))
    found = torch.zeros_like(wanted)
    found[row, column] = True
    assert torch.equal(found, wanted)
    assert torch.equal(value, matrix[row, column])


def test_enclosing_boxes_reach_to_the_corners() -> None:
    boxes = random_boxes(20, 10)
    points = torch.tensor([corners(box) for box in boxes.tolist()])
    expected = torch.cat((points.amin(dim=1), points.amax(dim=1)), dim=1)
    torch.testing.assert_close(enclosing_boxes(boxes), expected, atol=1e-4, rtol=0)
