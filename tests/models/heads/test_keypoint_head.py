"""Keypoint heads: names, resolution, and whose keypoints are whose."""

import math

import pytest
import torch
import torch.nn.functional as F

from models import (
    BaseKeypointRCNNHead,
    Boxes,
    Instances,
    Keypoints,
    ShapeSpec,
    build_keypoint_head,
)
from models.config import default_config
from models.heads import KRCNNConvDeconvUpsampleHead
from models.heads.keypoint_head import keypoint_rcnn_loss
from models.structures.keypoints import heatmaps_to_keypoints


def head() -> KRCNNConvDeconvUpsampleHead:
    torch.manual_seed(0)
    shape = ShapeSpec(channels=4, height=5, width=5)
    return KRCNNConvDeconvUpsampleHead(shape, num_keypoints=3, conv_dims=[6, 8])


def detected(*counts: int) -> list[Instances]:
    boxes = torch.tensor([[3.0, 4.0, 33.0, 44.0]])
    return [Instances((60, 60), pred_boxes=Boxes(boxes.repeat(n, 1))) for n in counts]


def test_layers_have_the_names_of_checkpoints() -> None:
    shapes = {name: tuple(value.shape) for name, value in head().state_dict().items()}
    assert shapes == {
        "conv_fcn1.weight": (6, 4, 3, 3),
        "conv_fcn1.bias": (6,),
        "conv_fcn2.weight": (8, 6, 3, 3),
        "conv_fcn2.bias": (8,),
        "score_lowres.weight": (8, 3, 4, 4),
        "score_lowres.bias": (3,),
    }


def test_logits_have_four_times_the_resolution() -> None:
    x, ours = torch.randn(2, 4, 5, 5), head()
    hidden = F.relu(ours.conv_fcn2(F.relu(ours.conv_fcn1(x))))
    low = F.conv_transpose2d(
        hidden, ours.score_lowres.weight, ours.score_lowres.bias, stride=2, padding=1
    )
    assert low.shape == (2, 3, 10, 10)
    expected = F.interpolate(low, size=(20, 20), mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours.layers(x), expected)


def test_each_image_gets_its_keypoints() -> None:
    x, ours = torch.randn(3, 4, 5, 5), head().eval()
    instances = detected(1, 0, 2)
    returned = ours(x, instances)
    assert [a is b for a, b in zip(returned, instances, strict=True)] == [True] * 3
    assert [y.pred_keypoints.shape for y in returned] == [(1, 3, 3), (0, 3, 3), (2, 3, 3)]
    boxes = torch.cat([y.pred_boxes.tensor for y in instances])
    expected = heatmaps_to_keypoints(ours.layers(x), boxes)
    torch.testing.assert_close(torch.cat([y.pred_keypoints for y in returned]), expected)


def test_no_instances_get_no_keypoints() -> None:
    (none,) = head().eval()(torch.zeros(0, 4, 5, 5), detected(0))
    assert none.pred_keypoints.shape == (0, 3, 3)


@pytest.mark.parametrize(("visible", "normalizer"), [(True, "visible"), (False, 17 * 512 * 0.25)])
def test_a_config_gives_the_head_of_the_zoo(visible: bool, normalizer: float | str) -> None:
    cfg = default_config().override(
        "MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS", visible
    )
    with torch.device("meta"):
        ours = build_keypoint_head(cfg, ShapeSpec(channels=256, height=14, width=14))
        assert ours.layers(torch.zeros(1, 256, 14, 14)).shape == (1, 17, 56, 56)
    assert isinstance(ours, KRCNNConvDeconvUpsampleHead)
    assert ours.loss_normalizer == normalizer


def test_the_base_alone_predicts_nothing() -> None:
    with pytest.raises(NotImplementedError):
        BaseKeypointRCNNHead(num_keypoints=3)(torch.zeros(1, 4, 5, 5), detected(1))


def learnt(*points: list[list[float]]) -> Instances:
    """Proposals of 20 x 20 pixels with their keypoints, x, y and visibility."""
    return Instances(
        (60, 60),
        proposal_boxes=Boxes(torch.tensor([[0.0, 0, 20, 20]]).repeat(len(points), 1)),
        gt_keypoints=Keypoints(torch.tensor(points).reshape(len(points), 3, 3)),
    )


SEEN, HIDDEN, ABSENT, OUTSIDE = [2.0, 2, 2], [18.0, 2, 1], [3.0, 3, 0], [30.0, 2, 2]


def test_the_loss_is_the_entropy_of_the_labelled_keypoints() -> None:
    logits = torch.zeros(2, 3, 2, 2)
    logits[0, 0, 0, 0] = 3.0  # right
    logits[0, 2] = logits[1, 0] = 50.0  # nothing is to be learnt there
    instances = [learnt([SEEN, HIDDEN, ABSENT]), learnt([OUTSIDE, ABSENT, SEEN])]
    right = math.log(1 + 3 * math.exp(-3.0))
    total = right + 2 * math.log(4)
    loss = keypoint_rcnn_loss(logits, instances, None)
    assert float(loss) == pytest.approx(total / 3)  # three are labelled and inside
    assert float(keypoint_rcnn_loss(logits, instances, 10.0)) == pytest.approx(total / 10)


@pytest.mark.parametrize(("normalizer", "divisor"), [("visible", 2), (8.0, 3 * 8.0)])
def test_a_normalizer_is_for_each_image_or_the_visible_ones(
    normalizer: float | str, divisor: float
) -> None:
    class FlatHead(BaseKeypointRCNNHead):
        """Every cell is as likely."""

        def layers(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 3, 2, 2)

    ours = FlatHead(num_keypoints=3, loss_weight=0.5, loss_normalizer=normalizer)
    losses = ours(torch.zeros(1, 4, 5, 5), [learnt([SEEN, HIDDEN, ABSENT]), learnt(), learnt()])
    assert list(losses) == ["loss_keypoint"]
    assert float(losses["loss_keypoint"]) == pytest.approx(0.5 * 2 * math.log(4) / divisor)


@pytest.mark.parametrize(
    "instances", [[learnt(), learnt()], [learnt([ABSENT, OUTSIDE, ABSENT])]], ids=["none", "unseen"]
)
def test_without_keypoints_the_loss_is_a_connected_zero(instances: list[Instances]) -> None:
    ours = head()
    loss = ours(torch.zeros(sum(map(len, instances)), 4, 5, 5), instances)["loss_keypoint"]
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is not None and not p.grad.any() for p in ours.parameters())


def test_another_number_of_keypoints_is_told() -> None:
    with pytest.raises(ValueError, match=r"has 3 keypoints.*the model 17.*NUM_KEYPOINTS to 3"):
        keypoint_rcnn_loss(torch.zeros(1, 17, 2, 2), [learnt([SEEN, SEEN, SEEN])], None)


def test_proposals_without_keypoints_are_told() -> None:
    without = learnt([SEEN, SEEN, SEEN])
    without.remove("gt_keypoints")
    with pytest.raises(ValueError, match=r"none under 'gt_keypoints'.*MODEL.KEYPOINT_ON"):
        keypoint_rcnn_loss(torch.zeros(1, 3, 2, 2), [without], None)
