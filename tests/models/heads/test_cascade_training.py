"""CascadeROIHeads in training: what each stage is given, how it is matched, how hard it pulls."""

import math
from typing import Any

import pytest
import torch
from tiny_models import tiny_config
from torch import Tensor, nn

from models import (
    Box2BoxTransform,
    Boxes,
    CascadeROIHeads,
    FastRCNNOutputLayers,
    Instances,
    Matcher,
    ROIPooler,
    ShapeSpec,
    build_roi_heads,
)

SIZE = (80, 80)
OBJECT = [10.0, 10.0, 30.0, 30.0]
BACKGROUND = 2


class Mover(FastRCNNOutputLayers):
    """Moves every box by one delta, says nothing about classes, and keeps what it learns from."""

    def __init__(self, delta: list[float]) -> None:
        super().__init__(
            ShapeSpec(channels=8),
            box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
            num_classes=2,
            cls_agnostic_bbox_reg=True,
        )
        self.delta = torch.tensor(delta)
        self.seen: list[Instances] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        nothing = x.sum() * 0
        return torch.zeros(len(x), 3) + nothing, self.delta.repeat(len(x), 1) + nothing

    def losses(self, predictions: Any, proposals: Any) -> dict[str, Tensor]:
        self.seen = list(proposals)
        return super().losses(predictions, proposals)


def cascade(*predictors: nn.Module, ious: tuple[float, ...] = (0.5, 0.6)) -> CascadeROIHeads:
    return CascadeROIHeads(
        num_classes=2,
        batch_size_per_image=8,
        positive_fraction=1.0,
        proposal_append_gt=False,
        box_in_features=["p2"],
        box_pooler=ROIPooler(2, [0.25], 0, "ROIAlignV2"),
        box_heads=[nn.Flatten() for _ in predictors],
        box_predictors=predictors,
        proposal_matchers=[Matcher([iou], [0, 1]) for iou in ious],
    )


def proposals(*boxes: list[float]) -> Instances:
    return Instances(SIZE, proposal_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))


def truth(*boxes: list[float]) -> Instances:
    return Instances(
        SIZE,
        gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
        gt_classes=torch.ones(len(boxes), dtype=torch.int64),
    )


def train(heads: CascadeROIHeads, found: Instances, objects: Instances) -> dict[str, Tensor]:
    _, losses = heads(None, {"p2": torch.zeros(1, 2, 20, 20)}, [found], [objects])
    return losses


def test_each_stage_has_losses_of_its_own() -> None:
    losses = train(cascade(Mover([0.0] * 4), Mover([0.0] * 4)), proposals(OBJECT), truth(OBJECT))
    assert {name: round(float(loss.detach()), 5) for name, loss in losses.items()} == {
        "loss_cls_stage0": round(math.log(3), 5),
        "loss_box_reg_stage0": 0,
        "loss_cls_stage1": round(math.log(3), 5),
        "loss_box_reg_stage1": 0,
    }


def test_a_stage_learns_from_the_boxes_of_the_one_before_matched_anew() -> None:
    first, second = Mover([0.25, 0.0, 0.0, 0.0]), Mover([0.0] * 4)
    losses = train(cascade(first, second), proposals([5.0, 10.0, 25.0, 30.0]), truth(OBJECT))
    assert first.seen[0].gt_classes.tolist() == [1]
    assert second.seen[0].proposal_boxes.tensor.tolist() == [OBJECT]
    assert second.seen[0].gt_boxes.tensor.tolist() == [OBJECT]
    assert float(losses["loss_box_reg_stage1"].detach()) == 0
    assert not second.seen[0].proposal_boxes.tensor.requires_grad


def test_later_stages_are_stricter() -> None:
    first, second = Mover([0.0] * 4), Mover([0.0] * 4)
    beside = [15.0, 10.0, 35.0, 30.0]  # IoU 0.6 with the object
    train(cascade(first, second, ious=(0.5, 0.7)), proposals(beside), truth(OBJECT))
    assert first.seen[0].gt_classes.tolist() == [1]
    assert second.seen[0].gt_classes.tolist() == [BACKGROUND]


def test_boxes_are_clipped_and_empty_ones_dropped_between_stages() -> None:
    first, second = Mover([0.75, 0.0, 0.0, 0.0]), Mover([0.0] * 4)
    far = [60.0, 10.0, 80.0, 30.0]  # moves to 75 .. 95: the image ends at 80
    gone = [70.0, 10.0, 76.0, 30.0]  # 74.5 .. 80.5
    out = [79.0, 10.0, 90.0, 30.0]  # leaves the image
    train(cascade(first, second), proposals(far, gone, out), truth(OBJECT))
    assert len(first.seen[0]) == 3
    boxes = sorted(second.seen[0].proposal_boxes.tensor.tolist())
    assert boxes == [[74.5, 10, 80, 30], [75, 10, 80, 30]]


def test_without_objects_every_stage_sees_background() -> None:
    first, second = Mover([0.25, 0.0, 0.0, 0.0]), Mover([0.0] * 4)
    losses = train(cascade(first, second), proposals(OBJECT), truth())
    assert second.seen[0].gt_classes.tolist() == [BACKGROUND]
    assert not second.seen[0].has("gt_boxes")
    assert float(losses["loss_box_reg_stage1"].detach()) == 0


def test_the_maps_feel_each_stage_by_its_share() -> None:
    class Sum(Mover):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros(len(x), 3) + x.sum() * 0, x[:, :1].expand(-1, 4)

    def gradient(stages: int) -> Tensor:
        heads = cascade(*[Sum([0.0] * 4) for _ in range(stages)], ious=(0.5,) * stages)
        maps = torch.full((1, 2, 20, 20), 1e-6).requires_grad_()
        _, losses = heads(None, {"p2": maps}, [proposals(OBJECT)], [truth(OBJECT)])
        losses["loss_box_reg_stage0"].backward()
        return maps.grad

    torch.testing.assert_close(gradient(4), gradient(1) / 4)
    assert bool(gradient(1).any())


def test_a_stage_that_runs_away_stops_the_training() -> None:
    heads = cascade(Mover([math.nan, 0.0, 0.0, 0.0]), Mover([0.0] * 4))
    with pytest.raises(FloatingPointError, match=r"stage of the cascade .* has diverged"):
        train(heads, proposals(OBJECT), truth(OBJECT))


@pytest.mark.parametrize("boxes", [(OBJECT,), ()])
@pytest.mark.parametrize("found", [proposals(OBJECT), proposals()])
def test_every_weight_gets_a_gradient_whatever_there_is(boxes: Any, found: Instances) -> None:
    cfg = tiny_config(
        ROI_HEADS__NAME="CascadeROIHeads",
        ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG=True,
        ROI_HEADS__IN_FEATURES=["p2"],
    )
    torch.manual_seed(0)
    heads: Any = build_roi_heads(cfg, {"p2": ShapeSpec(channels=2, stride=4)}).train()
    maps = torch.randn(1, 2, 20, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
    _, losses = heads(None, {"p2": maps}, [found], [truth(*boxes)])
    sum(losses.values()).backward()
    assert len(losses) == 6
    assert all(bool(loss.isfinite()) for loss in losses.values())
    assert [name for name, p in heads.named_parameters() if p.grad is None] == []
    assert maps.grad is not None


def test_figures_are_kept_by_stage() -> None:
    heads = cascade(Mover([0.0] * 4), Mover([0.0] * 4))
    train(heads, proposals(OBJECT), truth(OBJECT))
    assert set(heads.training_figures) == {
        "roi_head/num_fg_samples",
        "roi_head/num_bg_samples",
        *(
            f"stage{stage}/fast_rcnn/{name}"
            for stage in (0, 1)
            for name in ("cls_accuracy", "fg_cls_accuracy", "false_negative")
        ),
    }
