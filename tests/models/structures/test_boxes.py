"""Boxes: clipping, areas, indexing; IoU against a slow reference."""

import pytest
import torch

from models.structures import Boxes, pairwise_iou


def random_boxes(count: int, seed: int, side: float = 40.0) -> Boxes:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator) * side
    return Boxes(torch.cat((corners.amin(dim=1), corners.amax(dim=1)), dim=1))


def slow_iou(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize(
    "tensor", [torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 3, 4]], dtype=torch.float64)]
)
def test_coordinates_become_float32(tensor: torch.Tensor) -> None:
    assert Boxes(tensor).tensor.dtype == torch.float32


@pytest.mark.parametrize("shape", [(4,), (2, 5), (2, 2, 4)])
def test_another_shape_than_r_by_4_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Boxes need shape \(R, 4\)"):
        Boxes(torch.ones(shape))


@pytest.mark.parametrize("tensor", [torch.empty(0), torch.empty(0, 4), torch.tensor([])])
def test_no_boxes_have_shape_0_by_4(tensor: torch.Tensor) -> None:
    boxes = Boxes(tensor)
    assert boxes.tensor.shape == (0, 4)
    assert len(boxes) == 0
    assert boxes.area().shape == (0,)
    assert boxes.nonempty().shape == (0,)


def test_clip_takes_height_before_width() -> None:
    boxes = Boxes(torch.tensor([[-5.0, -6.0, 100.0, 100.0], [1.0, 2.0, 3.0, 4.0]]))
    boxes.clip((10, 20))
    assert boxes.tensor.tolist() == [[0, 0, 20, 10], [1, 2, 3, 4]]


def test_clip_leaves_the_tensor_that_it_was_made_of() -> None:
    tensor = torch.tensor([[-5.0, -6.0, 100.0, 100.0]])
    Boxes(tensor).clip((10, 20))
    assert tensor.tolist() == [[-5, -6, 100, 100]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_clip_refuses_what_is_not_finite(value: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        Boxes(torch.tensor([[0.0, 0.0, value, 1.0]])).clip((10, 10))


def test_area_is_width_times_height() -> None:
    assert Boxes(torch.tensor([[1.0, 2.0, 4.0, 7.0]])).area().tolist() == [15]


def test_nonempty_needs_both_sides_strictly_longer_than_the_threshold() -> None:
    boxes = Boxes(torch.tensor([[0, 0, 2, 3], [0, 0, 3, 2], [0, 0, 3, 3], [1, 1, 1, 5]]))
    assert boxes.nonempty().tolist() == [True, True, True, False]
    assert boxes.nonempty(threshold=2.0).tolist() == [False, False, True, False]


def test_scale_takes_x_before_y() -> None:
    boxes = Boxes(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    boxes.scale(2.0, 10.0)
    assert boxes.tensor.tolist() == [[2, 20, 6, 40]]


def test_a_clone_shares_no_memory() -> None:
    boxes = Boxes(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    boxes.clone().scale(2.0, 2.0)
    assert boxes.tensor.tolist() == [[1, 2, 3, 4]]


def test_centers_lie_in_the_middle() -> None:
    assert Boxes(torch.tensor([[1.0, 2.0, 3.0, 8.0]])).get_centers().tolist() == [[2, 5]]


def test_cat_keeps_the_order() -> None:
    first, second = random_boxes(2, seed=0), random_boxes(3, seed=1)
    assert torch.equal(Boxes.cat([first, second]).tensor[2:], second.tensor)


def test_cat_of_nothing_is_empty() -> None:
    assert Boxes.cat([]).tensor.shape == (0, 4)


@pytest.mark.parametrize(
    ("item", "rows"),
    [
        (1, [1]),
        (-1, [3]),
        (slice(1, 3), [1, 2]),
        (torch.tensor([True, False, False, True]), [0, 3]),
        (torch.tensor([3, 0, 3]), [3, 0, 3]),
        (torch.tensor([], dtype=torch.int64), []),
    ],
)
def test_indexing_gives_boxes(item: int | slice | torch.Tensor, rows: list[int]) -> None:
    boxes = random_boxes(4, seed=0)
    assert torch.equal(boxes[item].tensor, boxes.tensor[rows].reshape(-1, 4))


def test_iteration_gives_one_tensor_per_box() -> None:
    boxes = random_boxes(3, seed=0)
    assert [box.shape for box in boxes] == [(4,)] * 3


def test_iou_equals_the_slow_reference() -> None:
    first, second = random_boxes(20, seed=1), random_boxes(30, seed=2)
    expected = [[slow_iou(a, b) for b in second.tensor.tolist()] for a in first.tensor.tolist()]
    torch.testing.assert_close(
        pairwise_iou(first, second), torch.tensor(expected), rtol=1e-4, atol=1e-6
    )


def test_iou_is_0_for_boxes_that_touch_and_for_empty_boxes() -> None:
    boxes = Boxes(torch.tensor([[0, 0, 2, 2], [2, 0, 4, 2], [1, 1, 1, 1]]))
    assert pairwise_iou(boxes, boxes).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_iou_with_no_boxes_keeps_the_shape() -> None:
    boxes, none = random_boxes(3, seed=0), Boxes(torch.empty(0, 4))
    assert pairwise_iou(none, boxes).shape == (0, 3)
    assert pairwise_iou(boxes, none).shape == (3, 0)
