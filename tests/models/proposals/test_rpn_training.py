"""RPN in training: its losses by hand, pictures without objects, what is proposed, divergence."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import (
    RPN,
    Box2BoxTransform,
    Boxes,
    DefaultAnchorGenerator,
    ImageList,
    Instances,
    Matcher,
    StandardRPNHead,
)

SIZE = (16, 32)
# One map of 2 x 4 cells with stride 8 and one anchor, 8 x 8, in each: they tile the image.
FEATURES = {"p3": torch.ones(2, 4, 2, 4)}
IMAGES = ImageList(torch.zeros(2, 3, *SIZE), [SIZE, SIZE])


class ConstantHead(nn.Module):
    """The same logit and deltas for every anchor; both learn."""

    def __init__(self, logit: float, deltas: list[float]) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))
        self.deltas = nn.Parameter(torch.tensor(deltas))

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        ones = [level[:, :1] * 0 + 1 for level in features]
        return [self.logit * x for x in ones], [self.deltas.view(1, 4, 1, 1) * x for x in ones]


def anchors(offset: float) -> DefaultAnchorGenerator:
    return DefaultAnchorGenerator(sizes=[[8]], aspect_ratios=[[1.0]], strides=[8], offset=offset)


def rpn(head: nn.Module, **changes: Any) -> RPN:
    keywords: dict[str, Any] = {
        "in_features": ["p3"],
        "head": head,
        "anchor_generator": anchors(offset=0.5),
        "anchor_matcher": Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        "box2box_transform": Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        "batch_size_per_image": 16,
        "positive_fraction": 0.5,
        "pre_nms_topk": (6, 3),
        "post_nms_topk": (5, 2),
    }
    return RPN(**keywords | changes)


def objects(*boxes: list[float]) -> Instances:
    return Instances(SIZE, gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))


# An object that lies on one anchor, but a quarter further to the right.
MOVED = objects([2.0, 0.0, 10.0, 8.0])
NONE = objects()


def losses(generator: RPN, *truths: Instances) -> dict[str, Tensor]:
    _, found = generator(IMAGES, FEATURES, truths)
    return found


def test_losses_by_hand() -> None:
    found = losses(rpn(ConstantHead(0.0, [0.0] * 4)), MOVED, NONE)
    # The anchor [0, 0, 8, 8] is positive (IoU 6/10), its neighbour (1/7) and all others are
    # negative: 8 anchors of each image at ln 2, of 16 that an image could have given.
    assert float(found["loss_rpn_cls"].detach()) == pytest.approx(16 * math.log(2) / (2 * 16))
    assert float(found["loss_rpn_loc"].detach()) == pytest.approx(0.25 / (2 * 16))


def test_smooth_l1_and_overlap_losses_are_chosen_by_name() -> None:
    head = ConstantHead(0.0, [0.0] * 4)
    smooth = losses(rpn(head, smooth_l1_beta=1.0), MOVED, NONE)["loss_rpn_loc"]
    assert float(smooth.detach()) == pytest.approx(0.25**2 / 2 / 32)
    giou = losses(rpn(head, box_reg_loss_type="giou"), MOVED, NONE)["loss_rpn_loc"]
    assert float(giou.detach()) == pytest.approx((1 - 0.6) / 32, abs=1e-6)


def test_loss_weights_multiply() -> None:
    head = ConstantHead(0.0, [0.0] * 4)
    plain = losses(rpn(head), MOVED, NONE)
    weighted = losses(
        rpn(head, loss_weight={"loss_rpn_cls": 2.0, "loss_rpn_loc": 3.0}), MOVED, NONE
    )
    torch.testing.assert_close(weighted["loss_rpn_cls"], 2 * plain["loss_rpn_cls"])
    torch.testing.assert_close(weighted["loss_rpn_loc"], 3 * plain["loss_rpn_loc"])


def test_each_image_is_matched_with_its_own_objects() -> None:
    generator = rpn(ConstantHead(0.0, [0.25, 0.0, 0.0, 0.0]))
    right = losses(generator, MOVED, MOVED)["loss_rpn_loc"]
    wrong = losses(generator, MOVED, objects([2.0, 2.0, 10.0, 10.0]))["loss_rpn_loc"]
    assert float(right.detach()) == 0
    assert float(wrong.detach()) == pytest.approx(0.25 / 32)


def test_the_losses_pull_logits_and_deltas_the_right_way() -> None:
    head = ConstantHead(0.0, [0.0] * 4)
    sum(losses(rpn(head), MOVED, NONE).values()).backward()
    assert float(head.logit.grad) == pytest.approx((15 * 0.5 - 0.5) / 32)
    assert head.deltas.grad.tolist() == pytest.approx([-1 / 32, 0, 0, 0])


def test_without_objects_there_is_no_box_loss_but_a_gradient_of_zeros() -> None:
    head = ConstantHead(1.0, [0.5] * 4)
    found = losses(rpn(head), NONE, NONE)
    sum(found.values()).backward()
    assert float(found["loss_rpn_loc"].detach()) == 0
    assert head.deltas.grad.tolist() == [0.0] * 4
    assert float(head.logit.grad) > 0


def test_fewer_anchors_are_sampled_than_there_are() -> None:
    generator = rpn(ConstantHead(0.0, [0.0] * 4), batch_size_per_image=4)
    found = losses(generator, MOVED, NONE)
    assert float(found["loss_rpn_cls"].detach()) == pytest.approx(math.log(2))
    assert generator.training_figures == {"rpn/num_pos_anchors": 0.5, "rpn/num_neg_anchors": 3.5}


def test_training_proposes_as_many_as_its_own_limits_say_and_without_gradient() -> None:
    head = StandardRPNHead(in_channels=4, num_anchors=1)
    generator = rpn(head, nms_thresh=0.9)
    proposals, found = generator(IMAGES, FEATURES, [MOVED, NONE])
    assert [len(x) for x in proposals] == [5, 5]
    assert not any(x.proposal_boxes.tensor.requires_grad for x in proposals)
    assert not any(x.objectness_logits.requires_grad for x in proposals)
    assert set(found) == {"loss_rpn_cls", "loss_rpn_loc"}
    proposals, found = generator.eval()(IMAGES, FEATURES)
    assert [len(x) for x in proposals] == [2, 2]
    assert found == {}


def test_anchors_outside_of_the_image_can_be_ignored() -> None:
    # Those of the first row and the first column begin at -4.
    generator = rpn(
        ConstantHead(0.0, [0.0] * 4), anchor_boundary_thresh=0, anchor_generator=anchors(offset=0)
    )
    found = losses(generator, NONE, NONE)
    assert float(found["loss_rpn_cls"].detach()) == pytest.approx(2 * 3 * math.log(2) / 32)


@pytest.mark.parametrize(("logit", "delta"), [(math.nan, 0.0), (0.0, math.inf)])
def test_predictions_that_are_not_finite_stop_the_training(logit: float, delta: float) -> None:
    generator = rpn(ConstantHead(logit, [delta] * 4))
    with pytest.raises(FloatingPointError, match=r"region proposal network .* has diverged"):
        losses(generator, MOVED, NONE)


def test_training_without_ground_truth_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs ground truth"):
        rpn(ConstantHead(0.0, [0.0] * 4))(IMAGES, FEATURES)


def test_half_precision_predictions_cost_in_float32() -> None:
    head = ConstantHead(0.5, [0.1] * 4).half()
    features = {"p3": FEATURES["p3"].half()}
    _, found = rpn(head)(IMAGES, features, [MOVED, NONE])
    assert {loss.dtype for loss in found.values()} == {torch.float32}
