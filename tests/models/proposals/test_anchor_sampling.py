"""Which anchors a step learns from: by overlap, by the border of the image, by lot."""

import pytest
import torch

from models import Boxes, Instances, Matcher, RotatedBoxes
from models.proposals.anchor_sampling import AnchorSample, sample_anchors

# With the object [0, 0, 10, 10]: IoU 1, 1/2, 1/5, 0, and 0.4 outside of the image in part.
ANCHORS = torch.tensor(
    [[0.0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 50], [60, 60, 70, 70], [-5, 0, 10, 16.66]]
)
TRUTH = Boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0]]))


def sample(anchors=ANCHORS, truth: Boxes = TRUTH, **changes: float) -> AnchorSample:
    keywords = {"batch_size": 256, "positive_fraction": 0.5} | changes
    return sample_anchors(
        Boxes(anchors),
        Instances((100, 100), gt_boxes=truth),
        matcher=Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        **keywords,
    )


def test_good_anchors_are_positive_bad_ones_negative_and_others_ignored() -> None:
    found = sample()
    assert found.positive.tolist() == [0]
    assert sorted(found.negative.tolist()) == [2, 3]
    assert found.gt_boxes.tolist() == [[0, 0, 10, 10]]


def test_an_object_without_a_good_anchor_gets_its_best_one() -> None:
    found = sample(ANCHORS[1:])
    assert found.positive.tolist() == [0]
    assert found.gt_boxes.tolist() == [[0, 0, 10, 10]]


def test_each_positive_anchor_has_the_box_of_its_own_object() -> None:
    two = Boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0], [60.0, 60.0, 70.0, 71.0]]))
    found = sample(truth=two)
    boxes = dict(zip(found.positive.tolist(), found.gt_boxes.tolist(), strict=True))
    assert boxes == {0: [0, 0, 10, 10], 3: [60, 60, 70, 71]}


def test_without_objects_all_anchors_are_negative() -> None:
    found = sample(truth=Boxes(torch.zeros(0, 4)))
    assert found.positive.tolist() == []
    assert sorted(found.negative.tolist()) == [0, 1, 2, 3, 4]
    assert found.gt_boxes.shape == (0, 4)


def test_positives_are_limited_and_negatives_fill_up() -> None:
    many = torch.cat((ANCHORS[:1].repeat(9, 1), ANCHORS[3:4].repeat(20, 1)))
    found = sample(many, batch_size=10, positive_fraction=0.3)
    assert (len(found.positive), len(found.negative)) == (3, 7)


@pytest.mark.parametrize(
    ("thresh", "negative"), [(-1.0, [0, 1, 2, 3]), (0.0, [1]), (4.0, [1, 2]), (5.5, [0, 1, 2])]
)
def test_anchors_that_cross_the_border_can_be_left_out(thresh: float, negative: list[int]) -> None:
    crossing = torch.tensor([[-5.0, 0, 10, 10], [0, 0, 10, 10], [90, 90, 103, 100], [9, 9, 9, 120]])
    found = sample(crossing, truth=Boxes(torch.zeros(0, 4)), boundary_thresh=thresh)
    assert sorted(found.negative.tolist()) == negative


def test_rotated_anchors_cannot_be_left_out_by_the_border() -> None:
    rotated = RotatedBoxes(torch.tensor([[5.0, 5.0, 10.0, 10.0, 0.0]]))
    with pytest.raises(ValueError, match="cannot be left out"):
        sample_anchors(
            rotated,
            Instances((100, 100), gt_boxes=rotated),
            matcher=Matcher([0.5], [0, 1]),
            batch_size=8,
            positive_fraction=0.5,
            boundary_thresh=0,
        )
