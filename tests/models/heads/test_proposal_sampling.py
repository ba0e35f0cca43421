"""Which proposals a step learns from: ground truth among them, matches, foreground, keypoints."""

import pytest
import torch

from models import BitMasks, Boxes, Instances, Matcher, RotatedBoxes
from models.heads.proposal_sampling import (
    add_ground_truth_to_proposals,
    match_proposals,
    number_masks,
    select_foreground_proposals,
    select_proposals_with_visible_keypoints,
    set_masks_,
)
from models.structures import Keypoints

SIZE = (100, 100)
FIRST, SECOND = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 70.0, 70.0]


def boxes(*rows: list[float]) -> Boxes:
    return Boxes(torch.tensor(rows).reshape(-1, 4))


def truth(*rows: list[float], classes: tuple[int, ...] = ()) -> Instances:
    return Instances(SIZE, gt_boxes=boxes(*rows), gt_classes=torch.tensor(classes).long())


def proposals(*rows: list[float], **fields: object) -> Instances:
    return Instances(SIZE, proposal_boxes=boxes(*rows), **fields)


def test_ground_truth_comes_behind_the_proposals_and_is_all_but_certain() -> None:
    found = proposals(SECOND, objectness_logits=torch.tensor([0.5]))
    (joined,) = add_ground_truth_to_proposals([truth(FIRST, classes=(1,))], [found])
    assert joined.proposal_boxes.tensor.tolist() == [SECOND, FIRST]
    assert joined.objectness_logits.tolist() == pytest.approx([0.5, 23.0258509])
    assert not joined.has("gt_classes")


def test_proposals_without_logits_get_none() -> None:
    (joined,) = add_ground_truth_to_proposals([truth(FIRST, classes=(1,))], [proposals(SECOND)])
    assert list(joined.get_fields()) == ["proposal_boxes"]
    assert len(joined) == 2


def test_other_fields_of_proposals_come_from_the_ground_truth() -> None:
    marked = truth(FIRST, classes=(1,))
    marked.depth = torch.tensor([7.0])
    found = proposals(SECOND, depth=torch.tensor([3.0]))
    (joined,) = add_ground_truth_to_proposals([marked], [found])
    assert joined.depth.tolist() == [3, 7]
    with pytest.raises(ValueError, match=r"'depth', which the ground truth .*PROPOSAL_APPEND_GT"):
        add_ground_truth_to_proposals([truth(FIRST, classes=(1,))], [found])


def test_rotated_ground_truth_stays_rotated() -> None:
    box = RotatedBoxes(torch.tensor([[5.0, 5.0, 4.0, 2.0, 30.0]]))
    (joined,) = add_ground_truth_to_proposals(
        [Instances(SIZE, gt_boxes=box)], [Instances(SIZE, proposal_boxes=box)]
    )
    assert isinstance(joined.proposal_boxes, RotatedBoxes)
    assert len(joined) == 2


def test_a_proposal_has_the_class_of_its_best_object_or_is_background() -> None:
    found = proposals(SECOND, FIRST, [0.0, 0.0, 10.0, 19.0], [0.0, 0.0, 10.0, 21.0])
    matches, classes = match_proposals(
        found, truth(FIRST, SECOND, classes=(2, 0)), Matcher([0.5], [0, 1]), 3
    )
    assert matches.tolist() == [1, 0, 0, 0]
    assert classes.tolist() == [0, 2, 2, 3]


def test_what_is_neither_is_ignored() -> None:
    found = proposals(FIRST, [0.0, 0.0, 10.0, 21.0], SECOND)
    _, classes = match_proposals(
        found, truth(FIRST, classes=(2,)), Matcher([0.3, 0.7], [0, -1, 1]), 3
    )
    assert classes.tolist() == [2, -1, 3]


def test_without_objects_all_proposals_are_background() -> None:
    _, classes = match_proposals(proposals(FIRST, SECOND), truth(), Matcher([0.5], [0, 1]), 3)
    assert classes.tolist() == [3, 3]


def test_the_foreground_is_what_has_a_class() -> None:
    found = proposals(FIRST, SECOND, FIRST, gt_classes=torch.tensor([3, 0, -1]))
    empty = proposals(gt_classes=torch.tensor([], dtype=torch.int64))
    foreground, chosen = select_foreground_proposals([found, empty], 3)
    assert foreground[0].proposal_boxes.tensor.tolist() == [SECOND]
    assert [mask.tolist() for mask in chosen] == [[False, True, False], []]
    assert len(foreground[1]) == 0


def test_keypoints_must_be_labelled_and_lie_inside_the_proposal() -> None:
    points = [
        [[5.0, 5.0, 2.0], [90.0, 90.0, 2.0]],  # one inside
        [[5.0, 5.0, 0.0], [90.0, 90.0, 2.0]],  # the one inside is not labelled
        [[10.0, 10.0, 1.0], [0.0, 0.0, 0.0]],  # on the border, hidden
        [[10.1, 5.0, 2.0], [5.0, -0.1, 1.0]],  # just outside
    ]
    found = proposals(FIRST, FIRST, FIRST, FIRST, gt_keypoints=Keypoints(torch.tensor(points)))
    (chosen,) = select_proposals_with_visible_keypoints([found])
    assert chosen.gt_keypoints.tensor[:, 0, :2].tolist() == [[5, 5], [10, 10]]


def test_an_image_without_proposals_needs_no_keypoints() -> None:
    empty = proposals()
    assert select_proposals_with_visible_keypoints([empty]) == [empty]


def test_masks_are_copied_for_chosen_proposals_alone() -> None:
    objects = truth(FIRST, SECOND, classes=(1, 2))
    objects.gt_masks = BitMasks(torch.eye(2).bool()[:, None].expand(2, 2, 2))
    (numbered,) = number_masks([objects])
    assert list(numbered.get_fields()) == ["gt_boxes", "gt_classes", "gt_index"]
    assert list(objects.get_fields()) == ["gt_boxes", "gt_classes", "gt_masks"]
    found = proposals(SECOND, FIRST, SECOND, gt_index=numbered.gt_index[[1, 0, 1]])
    set_masks_([found], [objects])
    assert torch.equal(found.gt_masks.tensor, objects.gt_masks.tensor[[1, 0, 1]])


def test_proposals_that_have_their_masks_keep_them() -> None:
    objects = truth(FIRST, classes=(1,))
    objects.gt_masks = BitMasks(torch.zeros(1, 2, 2))
    own = BitMasks(torch.ones(1, 2, 2))
    found = proposals(FIRST, gt_masks=own)
    set_masks_([found], [objects])
    assert found.gt_masks is own
