"""Rotated NMS against a slow greedy loop."""

import pytest
import torch
import torchvision.ops
from torch import Tensor

import models.layers.rotated_nms as rotated_nms
from models.layers import batched_nms_rotated, nms_rotated, pairwise_iou_rotated


def slow_nms(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
    overlaps = pairwise_iou_rotated(boxes, boxes)
    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all(overlaps[i, j] < threshold for j in kept):
            kept.append(i)
    return kept


def random_boxes(number: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    low = torch.tensor([0.0, 0.0, 5.0, 5.0, -180.0])
    span = torch.tensor([60.0, 60.0, 40.0, 40.0, 360.0])
    boxes = low + span * torch.rand(number, 5, generator=generator)
    return boxes, torch.rand(number, generator=generator)


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_it_keeps_what_a_greedy_loop_keeps(threshold: float) -> None:
    boxes, scores = random_boxes(150, 0)
    assert nms_rotated(boxes, scores, threshold).tolist() == slow_nms(boxes, scores, threshold)


def test_blocks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, scores = random_boxes(150, 1)
    whole = nms_rotated(boxes, scores, 0.4)
    monkeypatch.setattr(rotated_nms, "BLOCK", 7)
    assert torch.equal(nms_rotated(boxes, scores, 0.4), whole)


def test_a_chain_is_thinned_box_by_box() -> None:
    # Each box overlaps only its neighbours; the first removes the second, which spares the third.
    boxes = torch.tensor([[2.0 * i, 0.0, 10.0, 10.0, 0.0] for i in range(9)])
    scores = torch.linspace(1, 0.1, 9)
    assert nms_rotated(boxes, scores, 0.5).tolist() == [0, 2, 4, 6, 8]


def test_upright_boxes_are_treated_as_torchvision_treats_them() -> None:
    boxes, scores = random_boxes(200, 2)
    boxes[:, 4] = 0
    half = boxes[:, 2:4] / 2
    upright = torch.cat((boxes[:, :2] - half, boxes[:, :2] + half), dim=1)
    expected = torchvision.ops.nms(upright, scores, 0.37)
    assert torch.equal(nms_rotated(boxes, scores, 0.37), expected)


def test_an_overlap_that_equals_the_threshold_is_too_much() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0, 0.0], [0.0, 0.0, 4.0, 2.0, 0.0]])
    scores = torch.tensor([0.9, 0.8])
    assert nms_rotated(boxes, scores, 0.5).tolist() == [0]
    assert nms_rotated(boxes, scores, 0.51).tolist() == [0, 1]


def test_equal_scores_keep_their_order() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0, 10.0]] * 3 + [[50.0, 0.0, 4.0, 4.0, 10.0]])
    assert nms_rotated(boxes, torch.ones(4), 0.5).tolist() == [0, 3]


def test_threshold_0_keeps_only_the_best() -> None:
    boxes, scores = random_boxes(10, 3)
    assert nms_rotated(boxes, scores, 0.0).tolist() == [int(scores.argmax())]


def test_no_boxes() -> None:
    empty, none = torch.zeros(0, 5), torch.zeros(0)
    assert nms_rotated(empty, none, 0.5).tolist() == []
    groups = torch.zeros(0, dtype=torch.int64)
    kept = batched_nms_rotated(empty, none, groups, 0.5)
    assert kept.dtype == torch.int64
    assert kept.tolist() == []


@pytest.mark.parametrize(("boxes", "scores"), [((3, 4), (3,)), ((3, 5), (2,)), ((5,), (5,))])
def test_wrong_shapes_are_refused(boxes: tuple[int, ...], scores: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Rotated NMS"):
        nms_rotated(torch.zeros(boxes), torch.zeros(scores), 0.5)


def test_groups_do_not_touch_each_other() -> None:
    boxes, scores = random_boxes(120, 4)
    boxes[:, :2] -= 40  # negative coordinates too
    groups = torch.arange(120) % 4
    expected = []
    for group in range(4):
        index = (groups == group).nonzero().flatten()
        expected += index[nms_rotated(boxes[index], scores[index], 0.3)].tolist()
    kept = batched_nms_rotated(boxes, scores, groups, 0.3)
    assert sorted(kept.tolist()) == sorted(expected)
    assert (scores[kept].diff() <= 0).all()


def test_batched_nms_leaves_its_input_alone() -> None:
    boxes, scores = random_boxes(5, 5)
    before = boxes.clone()
    batched_nms_rotated(boxes, scores, torch.tensor([0, 1, 2, 1, 0]), 0.5)
    assert torch.equal(boxes, before)
