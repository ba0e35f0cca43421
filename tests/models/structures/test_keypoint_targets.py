"""Keypoints of the ground truth, and the heatmap cells that they become."""

import pytest
import torch

from models import Keypoints

BOX = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # 20 wide, 40 high: cells of 5 x 10 for a size of 4


@pytest.mark.parametrize(
    ("x", "y", "cell"),
    [
        (10.0, 20.0, 0),  # the corner itself
        (14.99, 29.99, 0),
        (15.0, 20.0, 1),
        (10.0, 30.0, 4),
        (22.0, 47.0, 2 * 4 + 2),
        (30.0, 20.0, 3),  # the right edge belongs to the last cell
        (10.0, 60.0, 3 * 4),  # and so does the lower one
        (30.0, 60.0, 15),
    ],
)
def test_a_keypoint_becomes_the_cell_that_it_lies_in(x: float, y: float, cell: int) -> None:
    cells, valid = Keypoints(torch.tensor([[[x, y, 2.0]]])).to_heatmap(BOX, 4)
    assert (cells.tolist(), valid.tolist()) == ([[cell]], [[True]])


@pytest.mark.parametrize(
    ("x", "y", "visibility"),
    [
        (9.99, 30.0, 2.0),
        (20.0, 19.0, 2.0),
        (30.01, 30.0, 2.0),
        (20.0, 60.5, 2.0),
        (20.0, 30.0, 0.0),  # not labelled
    ],
)
def test_a_keypoint_that_teaches_nothing_is_not_valid(
    x: float, y: float, visibility: float
) -> None:
    cells, valid = Keypoints(torch.tensor([[[x, y, visibility]]])).to_heatmap(BOX, 4)
    assert (cells.tolist(), valid.tolist()) == ([[0]], [[False]])


def test_a_hidden_keypoint_is_learnt_too() -> None:
    _, valid = Keypoints(torch.tensor([[[20.0, 30.0, 1.0]]])).to_heatmap(BOX, 4)
    assert valid.tolist() == [[True]]


def test_a_box_without_sides_has_no_cells() -> None:
    point = torch.tensor([[20.0, 30.0, 20.0, 30.0]])
    keypoints = Keypoints(torch.tensor([[[19.0, 30.0, 2.0], [21.0, 31.0, 2.0]]]))
    cells, valid = keypoints.to_heatmap(point, 4)
    assert cells.tolist() == [[0, 0]]
    assert valid.tolist() == [[False, False]]


def test_each_instance_has_its_own_box() -> None:
    keypoints = Keypoints(torch.tensor([[[12.0, 12.0, 2.0]]] * 2))
    boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0], [12.0, 12.0, 16.0, 16.0]])
    cells, _ = keypoints.to_heatmap(boxes, 2)
    assert cells.tolist() == [[3], [0]]


def test_no_instances_have_no_cells() -> None:
    cells, valid = Keypoints(torch.zeros(0, 17, 3)).to_heatmap(torch.zeros(0, 4), 56)
    assert cells.shape == valid.shape == (0, 17)


def test_as_many_boxes_as_instances_are_needed() -> None:
    with pytest.raises(ValueError, match="keypoints of 2 instances"):
        Keypoints(torch.zeros(2, 3, 3)).to_heatmap(BOX, 4)


def test_another_shape_than_n_k_3_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(N, K, 3\)"):
        Keypoints(torch.zeros(4, 17))


@pytest.mark.parametrize(
    ("item", "first"),
    [(1, [1]), (slice(1, 3), [1, 2]), (torch.tensor([2, 2, 0]), [2, 2, 0])],
)
def test_keypoints_can_be_selected(item: int | slice | torch.Tensor, first: list[int]) -> None:
    keypoints = Keypoints(torch.arange(3)[:, None, None].expand(3, 5, 3))
    assert keypoints[item].tensor[:, 0, 0].tolist() == first


def test_cat_and_to_keep_the_keypoints() -> None:
    keypoints = Keypoints(torch.ones(2, 5, 3))
    joined = Keypoints.cat([keypoints, keypoints.to("cpu")[0]])
    assert len(joined) == len(list(joined)) == 3
    assert joined.tensor.shape == (3, 5, 3)
