"""RRPN: which rotated anchors become proposals, and what its config must say."""

import golden
import pytest
import torch
from torch import Tensor

from models import RRPN, Box2BoxTransformRotated, Config, RotatedBoxes, ShapeSpec, load_config
from models.errors import ConfigError
from models.proposals import find_top_rrpn_proposals
from models.structures import Instances

TRANSFORM = Box2BoxTransformRotated((1.0, 1.0, 1.0, 1.0, 1.0))
SHAPES = {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in range(2, 7)}


@pytest.fixture(scope="module")
def cfg() -> Config:
    return load_config(golden.GOLDEN / "custom__faster_rcnn_R_50_FPN_rotated" / "config.yaml")


def top(levels: list[tuple[Tensor, Tensor]], **changes: float) -> Instances:
    """Proposals of one 100 x 100 image from (anchors, logits) of each level, without any deltas."""
    keywords = {"nms_thresh": 0.7, "pre_nms_topk": 100, "post_nms_topk": 100, "min_box_size": 0.0}
    return find_top_rrpn_proposals(
        [RotatedBoxes(anchors) for anchors, _ in levels],
        [logits[None] for _, logits in levels],
        [torch.zeros(1, len(anchors), 5) for anchors, _ in levels],
        [(100, 100)],
        box2box_transform=TRANSFORM,
        **(keywords | changes),
    )[0]


BARS = torch.tensor([[50.0, 50, 40, 4, 0], [50, 50, 40, 4, 2], [50, 50, 40, 4, 90]])


def test_overlapping_proposals_of_a_level_are_suppressed_best_first() -> None:
    proposals = top([(BARS, torch.tensor([1.0, 2.0, 3.0]))])
    assert isinstance(proposals.proposal_boxes, RotatedBoxes)
    assert proposals.objectness_logits.tolist() == [3, 2]
    torch.testing.assert_close(proposals.proposal_boxes.tensor, BARS[[2, 1]])


def test_levels_do_not_suppress_each_other() -> None:
    logits = torch.tensor([1.0])
    assert len(top([(BARS[:1], logits), (BARS[:1], logits)])) == 2


def test_each_level_and_each_image_has_its_limit() -> None:
    apart = torch.tensor([[10.0 * i, 50, 5, 5, 30] for i in range(8)])
    level = (apart, torch.arange(8.0))
    assert top([level, level], pre_nms_topk=3).objectness_logits.tolist() == [7, 7, 6, 6, 5, 5]
    assert top([level, level], post_nms_topk=3).objectness_logits.tolist() == [7, 7, 6]


def test_only_horizontal_proposals_are_clipped_and_empty_ones_dropped() -> None:
    anchors = torch.tensor([[0.0, 50, 20, 10, 0], [0, 50, 20, 10, 30], [-50, 50, 20, 10, 0]])
    proposals = top([(anchors, torch.tensor([3.0, 2.0, 1.0]))])
    expected = torch.tensor([[5.0, 50, 10, 10, 0], [0, 50, 20, 10, 30]])
    torch.testing.assert_close(proposals.proposal_boxes.tensor, expected)


def test_small_and_broken_proposals_are_dropped() -> None:
    anchors = torch.tensor(
        [[50.0, 50, 20, 10, 30], [50, 50, 20, 9, 80], [torch.nan, 50, 20, 20, 0]]
    )
    logits = torch.tensor([1.0, 2.0, 3.0])
    assert top([(anchors, logits)], min_box_size=9.0).objectness_logits.tolist() == [1]
    assert len(top([(anchors, torch.tensor([torch.inf, torch.nan, 1.0]))])) == 0


def test_a_level_without_anchors_gives_no_proposals() -> None:
    assert len(top([(torch.zeros(0, 5), torch.zeros(0))])) == 0


def test_it_is_built_from_a_config(cfg: Config) -> None:
    generator = RRPN(cfg, SHAPES)
    assert isinstance(generator.box2box_transform, Box2BoxTransformRotated)
    assert generator.rpn_head.anchor_deltas.out_channels == 18 * 5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.RPN.BBOX_REG_WEIGHTS", [1.0, 1.0, 1.0, 1.0]),
        ("MODEL.RPN.BOUNDARY_THRESH", 0),
        ("MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(cfg: Config, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        RRPN(cfg.override(key, value), SHAPES)
