"""Two-stage models in training: what an input must have, what comes back, and what never happens."""

import copy
from typing import Any

import pytest
import torch
from tiny_models import tiny_image, tiny_model
from torch import Tensor

from models import BitMasks, Boxes, Instances, RotatedBoxes
from models.structures import Keypoints

SIZE = (96, 128)
BOXES = torch.tensor([[8.0, 8.0, 40.0, 44.0], [60.0, 30.0, 110.0, 90.0]])
CASCADE = {"ROI_HEADS__NAME": "CascadeROIHeads", "ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True}
ROTATED = {
    "ANCHOR_GENERATOR__NAME": "RotatedAnchorGenerator",
    "ANCHOR_GENERATOR__ANGLES": [[-45, 0, 45]],
    "PROPOSAL_GENERATOR__NAME": "RRPN",
    "RPN__PRE_NMS_TOPK_TRAIN": 50,
    "RPN__BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0, 1.0),
    "ROI_HEADS__NAME": "RROIHeads",
    "ROI_BOX_HEAD__BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0, 1.0),
    "ROI_BOX_HEAD__POOLER_TYPE": "ROIAlignRotated",
}
BOX_LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
KINDS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "faster": ({}, BOX_LOSSES),
    "masks": ({"MASK_ON": True}, BOX_LOSSES | {"loss_mask"}),
    "keypoints": ({"KEYPOINT_ON": True}, BOX_LOSSES | {"loss_keypoint"}),
    "sigmoid": (
        {"ROI_BOX_HEAD__USE_SIGMOID_CE": True, "ROI_BOX_HEAD__BBOX_REG_LOSS_TYPE": "ciou"},
        BOX_LOSSES,
    ),
    "cascade": (
        CASCADE,
        {"loss_rpn_cls", "loss_rpn_loc"}
        | {f"loss_{name}_stage{i}" for name in ("cls", "box_reg") for i in range(3)},
    ),
    "rotated": (ROTATED, BOX_LOSSES),
    "proposals": ({"META_ARCHITECTURE": "ProposalNetwork"}, {"loss_rpn_cls", "loss_rpn_loc"}),
    "fast": ({"PROPOSAL_GENERATOR__NAME": "PrecomputedProposals"}, {"loss_cls", "loss_box_reg"}),
}


def model(kind: str) -> Any:
    return tiny_model(**KINDS[kind][0]).train()


def inputs(kind: str, *counts: int) -> list[dict[str, Any]]:
    """A picture for each number of objects."""
    batch = []
    for i, count in enumerate(counts):
        boxes: Boxes | RotatedBoxes = Boxes(BOXES[:count])
        if kind == "rotated":
            centers, sides = boxes.get_centers(), BOXES[:count, 2:] - BOXES[:count, :2]
            boxes = RotatedBoxes(torch.cat((centers, sides, torch.full((count, 1), 30.0)), dim=1))
        masks = torch.zeros(count, *SIZE, dtype=torch.bool)
        masks[:, 20:60, 20:80] = True
        keypoints = torch.full((count, 4, 3), 2.0)
        keypoints[..., :2] = BOXES[:count, None, :2] + 5
        one = Instances(
            SIZE,
            gt_boxes=boxes,
            gt_classes=torch.arange(count),
            gt_masks=BitMasks(masks),
            gt_keypoints=Keypoints(keypoints),
        )
        batch.append({"image": tiny_image(*SIZE, seed=i), "instances": one})
        if kind == "fast":
            batch[-1]["proposals"] = Instances(SIZE, proposal_boxes=Boxes(BOXES + 3.0))
    return batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [(2, 1), (2, 0), (0, 0)])
def test_losses_are_finite_and_reach_every_weight(kind: str, counts: tuple[int, int]) -> None:
    torch.manual_seed(0)
    learner = model(kind)
    losses: dict[str, Tensor] = learner(inputs(kind, *counts))
    assert set(losses) == KINDS[kind][1]
    assert all(loss.dim() == 0 and bool(loss.isfinite()) for loss in losses.values())
    sum(losses.values()).backward()
    assert [name for name, p in learner.named_parameters() if p.grad is None] == []
    assert all(bool(p.grad.isfinite().all()) for p in learner.parameters())


@pytest.mark.parametrize("kind", ["masks", "cascade", "rotated", "proposals"])
def test_a_few_steps_make_the_losses_smaller(kind: str) -> None:
    torch.manual_seed(0)
    learner = model(kind)
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.01, momentum=0.9)
    batch = inputs(kind, 2, 1)
    totals = []
    for _ in range(8):
        total = sum(learner(batch).values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.9 * totals[0]


def test_a_step_follows_the_seed() -> None:
    learner, batch = model("masks"), inputs("masks", 2, 1)
    learner.proposal_generator.batch_size_per_image = learner.roi_heads.batch_size_per_image = 8

    def losses(seed: int) -> dict[str, float]:
        torch.manual_seed(seed)
        return {name: float(loss.detach()) for name, loss in learner(batch).items()}

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_training_leaves_the_answers_of_evaluation_alone() -> None:
    learner = model("masks")
    image = inputs("masks", 0)
    with torch.inference_mode():
        before = learner.eval()(image)[0]["instances"]
    learner.train()(inputs("masks", 2, 1))
    with torch.inference_mode():
        after = learner.eval()(image)[0]["instances"]
    assert len(before) > 0
    assert torch.equal(before.pred_boxes.tensor, after.pred_boxes.tensor)
    assert torch.equal(before.scores, after.scores)


def test_ground_truth_of_the_caller_stays_as_it_is() -> None:
    batch = inputs("masks", 2, 1)
    before = copy.deepcopy(batch)
    model("masks")(batch)
    for one, other in zip(batch, before, strict=True):
        assert list(one["instances"].get_fields()) == list(other["instances"].get_fields())
        assert torch.equal(one["instances"].gt_boxes.tensor, other["instances"].gt_boxes.tensor)
        assert torch.equal(one["instances"].gt_classes, other["instances"].gt_classes)


def test_figures_are_of_the_last_step_and_hold_no_graph() -> None:
    learner = model("masks")
    learner.training_figures["old"] = 1.0
    learner(inputs("masks", 2, 1))
    assert {
        "rpn/num_pos_anchors",
        "roi_head/num_fg_samples",
        "fast_rcnn/cls_accuracy",
        "mask_rcnn/accuracy",
    } <= set(learner.training_figures)
    assert "old" not in learner.training_figures
    assert not any(getattr(x, "requires_grad", False) for x in learner.training_figures.values())


@pytest.mark.parametrize("kind", ["masks", "keypoints", "cascade", "sigmoid"])
def test_losses_under_autocast_are_float32(kind: str) -> None:
    learner = model(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = learner(inputs(kind, 2, 0))
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    sum(losses.values()).backward()
    assert all(bool(p.grad.isfinite().all()) for p in learner.parameters())


@pytest.mark.parametrize("kind", ["faster", "proposals"])
def test_an_image_without_ground_truth_is_named(kind: str) -> None:
    batch = inputs(kind, 1, 1)
    del batch[1]["instances"]
    with pytest.raises(ValueError, match=r"Image 1 has no ground truth .*'instances'"):
        model(kind)(batch)


def test_ground_truth_of_another_size_is_refused() -> None:
    batch = inputs("faster", 1)
    batch[0]["image"] = tiny_image(64, 64)
    with pytest.raises(ValueError, match=r"64x64 pixels, and its ground truth .* 96x128"):
        model("faster")(batch)


@pytest.mark.parametrize(("label", "shown"), [(3, "3"), (-1, "-1")])
def test_a_class_that_the_model_does_not_have_is_refused(label: int, shown: str) -> None:
    batch = inputs("faster", 2, 2)
    batch[1]["instances"].gt_classes[1] = label
    with pytest.raises(ValueError, match=f"Image 1 has an object of class {shown}, .* 0 to 2"):
        model("faster")(batch)


def test_a_proposal_network_does_not_look_at_classes() -> None:
    batch = inputs("proposals", 2)
    batch[0]["instances"].gt_classes[1] = 999
    assert set(model("proposals")(batch)) == {"loss_rpn_cls", "loss_rpn_loc"}


def test_an_image_without_its_precomputed_proposals_is_named() -> None:
    batch = inputs("fast", 1, 1)
    del batch[1]["proposals"]
    with pytest.raises(ValueError, match="image 1 has none under 'proposals'"):
        model("fast")(batch)


def test_weights_that_are_not_finite_stop_the_training() -> None:
    learner = model("faster")
    learner.backbone.conv.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="has diverged"):
        learner(inputs("faster", 1))


def test_rotated_models_need_rotated_ground_truth() -> None:
    with pytest.raises(ValueError, match="model's boxes are RotatedBoxes"):
        model("rotated")(inputs("faster", 1))


def test_frozen_heads_are_no_error() -> None:
    learner = model("cascade")
    for parameter in learner.backbone.parameters():
        parameter.requires_grad_(False)
    sum(learner(inputs("cascade", 2, 1)).values()).backward()
    assert all(p.grad is not None for p in learner.roi_heads.parameters())
