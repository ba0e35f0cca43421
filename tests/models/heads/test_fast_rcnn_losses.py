"""Losses of the box predictor by hand: softmax, sigmoid and federated; boxes; nothing to learn from."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models import Box2BoxTransform, Boxes, FastRCNNOutputLayers, Instances, ShapeSpec
from models.config import default_config
from models.errors import ConfigError
from models.heads.fast_rcnn import set_class_image_counts
from models.heads.fast_rcnn_losses import classification_figures, federated_classes

SIZE = (100, 100)
BOX = [0.0, 0.0, 10.0, 10.0]
CLASSES = 3


def predictor(**changes: Any) -> FastRCNNOutputLayers:
    keywords: dict[str, Any] = {
        "box2box_transform": Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        "num_classes": CLASSES,
    }
    return FastRCNNOutputLayers(ShapeSpec(channels=8), **keywords | changes)


def regions(*classes: int, moved: float = 0.0) -> Instances:
    """Proposals of one box; their objects lie ``moved`` widths further to the right."""
    found = Instances(
        SIZE,
        proposal_boxes=Boxes(torch.tensor([BOX] * len(classes)).reshape(-1, 4)),
        gt_classes=torch.tensor(classes, dtype=torch.int64),
    )
    if any(label < CLASSES for label in classes):
        target = torch.tensor([BOX] * len(classes)) + torch.tensor([10 * moved, 0, 10 * moved, 0])
        found.gt_boxes = Boxes(target)
    return found


def losses(
    layers: FastRCNNOutputLayers, logits: Tensor, deltas: Tensor, *found: Instances
) -> dict[str, float]:
    costs = layers.losses((logits, deltas), list(found))
    return {name: float(cost.detach()) for name, cost in costs.items()}


def test_softmax_is_the_mean_over_all_regions() -> None:
    logits = torch.zeros(3, 4)
    logits[2, 3] = math.log(3.0)  # the background of three of six parts
    costs = losses(predictor(), logits, torch.zeros(3, 12), regions(0, 1), regions(3))
    assert costs["loss_cls"] == pytest.approx((2 * math.log(4) + math.log(2)) / 3)


def test_sigmoid_sums_over_the_classes_without_the_background() -> None:
    logits = torch.zeros(2, 4)
    logits[:, 3] = 50.0  # would cost much if it counted
    logits[0, 1] = math.log(3.0)
    costs = losses(predictor(use_sigmoid_ce=True), logits, torch.zeros(2, 12), regions(1, 3))
    assert costs["loss_cls"] == pytest.approx((5 * math.log(2) + math.log(4 / 3)) / 2)


def test_boxes_of_the_foreground_cost_in_the_column_of_their_class_and_share_all_regions() -> None:
    deltas = torch.full((4, 12), 9.0)
    deltas[0, 4:8] = torch.tensor([0.25, 0.0, 0.0, 0.0])  # class 1
    deltas[1, 0:4] = 0.0  # class 0
    costs = losses(predictor(), torch.zeros(4, 4), deltas, regions(1, 0, 3, 3, moved=0.5))
    assert costs["loss_box_reg"] == pytest.approx((0.25 + 0.5) / 4)


def test_class_agnostic_boxes_have_one_column_for_all() -> None:
    layers = predictor(cls_agnostic_bbox_reg=True)
    deltas = torch.tensor([[0.25, 0.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]])
    costs = losses(layers, torch.zeros(2, 4), deltas, regions(2, 3, moved=0.5))
    assert costs["loss_box_reg"] == pytest.approx(0.25 / 2)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"smooth_l1_beta": 1.0}, 0.5**2 / 2),
        ({"box_reg_loss_type": "giou"}, 2 / 3),
        ({"box_reg_loss_type": "diou"}, 2 / 3 + 25 / 325),
        ({"box_reg_loss_type": "ciou"}, 2 / 3 + 25 / 325),
        ({"loss_weight": {"loss_box_reg": 10.0}}, 5.0),
    ],
)
def test_the_box_loss_is_chosen_by_name_and_weighted(changes: dict, expected: float) -> None:
    costs = losses(
        predictor(**changes), torch.zeros(1, 4), torch.zeros(1, 12), regions(1, moved=0.5)
    )
    assert costs["loss_box_reg"] == pytest.approx(expected, abs=1e-6)
    assert costs["loss_cls"] == pytest.approx(math.log(4))


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("classes", [(), (3, 3)])
def test_without_foreground_the_box_loss_is_zero_and_connected(
    sigmoid: bool, agnostic: bool, classes: tuple[int, ...]
) -> None:
    layers = predictor(use_sigmoid_ce=sigmoid, cls_agnostic_bbox_reg=agnostic)
    costs = layers.losses(layers(torch.ones(len(classes), 8)), [regions(*classes), regions()])
    sum(costs.values()).backward()
    assert float(costs["loss_box_reg"].detach()) == 0
    assert not layers.bbox_pred.weight.grad.any()
    assert layers.cls_score.weight.grad.any() == bool(classes)
    assert all(cost.isfinite() for cost in costs.values())


def test_half_precision_predictions_cost_in_float32() -> None:
    for sigmoid in (False, True):
        layers = predictor(use_sigmoid_ce=sigmoid)
        costs = layers.losses(
            (torch.zeros(1, 4).half(), torch.zeros(1, 12).half()), [regions(1, moved=0.5)]
        )
        assert {cost.dtype for cost in costs.values()} == {torch.float32}


def test_the_classes_of_a_federated_step_occur_or_are_drawn_by_weight() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([1.0, 0.0, 5.0, 5.0, 5.0])
    drawn = [federated_classes(torch.tensor([2, 2, 0]), 4, weights).tolist() for _ in range(8)]
    assert all(classes[:2] == [0, 2] for classes in drawn)
    assert {tuple(sorted(classes[2:])) for classes in drawn} == {
        (3, 4)
    }  # never 1, nor 0 or 2 again


def test_the_background_takes_a_place_and_missing_classes_are_no_error() -> None:
    weights = torch.ones(3)
    assert len(federated_classes(torch.tensor([0, 3]), 3, weights)) == 3
    assert sorted(federated_classes(torch.tensor([0]), 50, weights).tolist()) == [0, 1, 2]
    assert federated_classes(torch.tensor([0, 1, 2]), 2, weights).tolist() == [0, 1, 2]
    assert federated_classes(torch.tensor([1]), 3, torch.zeros(3)).tolist() == [1]


def test_a_federated_loss_counts_its_classes_alone() -> None:
    layers = predictor(use_sigmoid_ce=True, use_fed_loss=True, fed_loss_num_classes=2)
    assert set_class_image_counts(layers, [4, 0, 9]) == 1
    logits = torch.zeros(1, 4)
    logits[0, 1] = 7.0  # class 1 is in no picture: it is never drawn
    costs = losses(layers, logits, torch.zeros(1, 12), regions(0))
    assert costs["loss_cls"] == pytest.approx(2 * math.log(2))


def test_counts_become_weights_by_the_power_of_the_config() -> None:
    cfg = default_config()
    for key, value in {
        "ROI_HEADS.NUM_CLASSES": CLASSES,
        "ROI_BOX_HEAD.USE_SIGMOID_CE": True,
        "ROI_BOX_HEAD.USE_FED_LOSS": True,
        "ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": 2,
        "ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
    }.items():
        cfg = cfg.override(f"MODEL.{key}", value)
    layers = FastRCNNOutputLayers(cfg, ShapeSpec(channels=8))
    set_class_image_counts(layers, [4, 0, 9])
    assert layers.fed_loss_cls_weights.tolist() == [2, 0, 3]
    assert layers.fed_loss_num_classes == 2
    assert "fed_loss_cls_weights" not in layers.state_dict()


def test_weights_can_come_with_the_constructor() -> None:
    layers = predictor(
        use_sigmoid_ce=True,
        use_fed_loss=True,
        get_fed_loss_cls_weights=lambda: torch.tensor([1.0, 2.0, 3.0]),
    )
    assert layers.fed_loss_cls_weights.tolist() == [1, 2, 3]


def test_other_predictors_need_no_counts() -> None:
    assert set_class_image_counts(predictor(), [1, 2]) == 0


@pytest.mark.parametrize("counts", [[1, 2], [1, 2, 3, 4], [1, 2, -3]])
def test_counts_that_do_not_fit_the_classes_are_refused(counts: list[int]) -> None:
    layers = predictor(use_sigmoid_ce=True, use_fed_loss=True)
    with pytest.raises(ValueError, match="over 3 classes needs as many numbers"):
        set_class_image_counts(layers, counts)


def test_a_federated_loss_needs_the_sigmoid() -> None:
    with pytest.raises(
        ConfigError, match=r"USE_FED_LOSS needs MODEL\.ROI_BOX_HEAD\.USE_SIGMOID_CE"
    ):
        predictor(use_fed_loss=True)


def test_a_federated_loss_without_counts_says_what_to_call() -> None:
    layers = predictor(use_sigmoid_ce=True, use_fed_loss=True)
    with pytest.raises(ConfigError, match="call set_class_image_counts"):
        losses(layers, torch.zeros(1, 4), torch.zeros(1, 12), regions(0))


def test_figures_say_how_many_classes_were_right() -> None:
    logits = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 0, 9], [0, 0, 9]])
    gt_classes = torch.tensor([0, 0, 1, 2])
    figures = classification_figures(logits, gt_classes, torch.tensor([0, 1, 2]))
    assert {name: float(value) for name, value in figures.items()} == pytest.approx(
        {
            "fast_rcnn/cls_accuracy": 2 / 4,
            "fast_rcnn/fg_cls_accuracy": 1 / 3,
            "fast_rcnn/false_negative": 1 / 3,
        }
    )
    none = torch.tensor([], dtype=torch.int64)
    assert set(classification_figures(logits, gt_classes, none)) == {"fast_rcnn/cls_accuracy"}
    assert classification_figures(logits[:0], none, none) == {}


@pytest.mark.parametrize("agnostic", [False, True])
def test_boxes_of_the_true_classes_are_predicted(agnostic: bool) -> None:
    layers = predictor(cls_agnostic_bbox_reg=agnostic)
    deltas = torch.zeros(3, 4 if agnostic else 12)
    deltas[0, 0 if agnostic else 8] = 0.5  # class 2 moves half a width
    found = [regions(2, 3), regions(), regions(0)]
    boxes = layers.predict_boxes_for_gt_classes((torch.zeros(3, 4), deltas), found)
    assert [b.tolist() for b in boxes] == [[[5, 0, 15, 10], BOX], [], [BOX]]
