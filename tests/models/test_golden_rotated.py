"""A rotated R-CNN against Detectron2's own answers: anchors, RRPN, pooling, heads and NMS."""

import golden
import pytest
import torch
from golden import GoldenRun

from models import RotatedBoxes

IMAGES = (0, 1)


@pytest.fixture(scope="module")
def run() -> GoldenRun:
    return golden.run_case("custom__faster_rcnn_R_50_FPN_rotated")


def test_parameter_names_and_shapes_are_equal(run: GoldenRun) -> None:
    assert run.parameters == run.expected["parameters"]


@pytest.mark.parametrize("image", IMAGES)
def test_proposals_are_the_same(run: GoldenRun, image: int) -> None:
    expected, ours = run.expected["outputs"][image]["rpn"], run.proposals[image]
    assert len(ours) == expected["count"]
    differences = golden.box_differences(expected["proposal_boxes"], ours.proposal_boxes)
    nearest = differences.min(dim=1)
    assert nearest.values.max() <= 0.1
    assert (
        golden.box_overlaps(expected["proposal_boxes"], ours.proposal_boxes).amax(1).min() >= 0.99
    )
    logits = torch.tensor(expected["objectness_logits"])
    assert (ours.objectness_logits[nearest.indices] - logits).abs().max() <= 1e-3


@pytest.mark.parametrize("image", IMAGES)
def test_clear_instances_have_a_partner(run: GoldenRun, image: int) -> None:
    expected, ours = run.expected["outputs"][image]["instances"], run.instances[image]
    assert isinstance(ours.pred_boxes, RotatedBoxes)
    assert list(ours.image_size) == expected["image_size"]
    assert len(ours) == len(expected["scores"])
    differences = golden.compare_instances(expected, ours)
    assert differences.clear > 90
    assert differences.matched >= 0.99 * differences.clear, differences.unmatched
    assert differences.worst_box <= 0.1
