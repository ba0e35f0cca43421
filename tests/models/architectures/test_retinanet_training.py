"""RetinaNet learning: which anchors learn what, the normaliser, and a whole step."""

import math

import pytest
import torch
from tiny_models import tiny_model
from tiny_truth import tiny_training_input

from models import Boxes, Instances, RetinaNet

LN2 = math.log(2)
L1 = {"RETINANET__SMOOTH_L1_LOSS_BETA": 0.0}


@pytest.fixture
def model() -> RetinaNet:
    return tiny_model(META_ARCHITECTURE="RetinaNet", **L1).train()


def truth(*boxes: list[float], classes: list[int]) -> Instances:
    return Instances(
        (50, 50),
        gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
        gt_classes=torch.tensor(classes, dtype=torch.int64),
    )


def test_overlap_decides_the_label(model: RetinaNet) -> None:
    overlapping = [[0.0, 0, 10, w] for w in (10, 5, 4.5, 3)]  # IoU 1, 0.5, 0.45, 0.3
    levels = [Boxes(torch.tensor(overlapping[:2])), Boxes(torch.tensor(overlapping[2:]))]
    (labels,), (boxes,) = model.label_anchors(levels, [truth([0.0, 0, 10, 10], classes=[2])])
    assert labels.tolist() == [2, 2, -1, 3]
    assert boxes[:2].tolist() == [[0, 0, 10, 10]] * 2


def test_an_object_teaches_its_best_anchor_however_small_the_overlap(model: RetinaNet) -> None:
    anchors = [Boxes(torch.tensor([[0.0, 0, 10, 2], [0.0, 0, 10, 1]]))]
    (labels,), _ = model.label_anchors(anchors, [truth([0.0, 0, 10, 10], classes=[1])])
    assert labels.tolist() == [1, 3]


def test_an_image_without_objects_is_background(model: RetinaNet) -> None:
    anchors = [Boxes(torch.tensor([[0.0, 0, 10, 2]]))]
    (labels,), (boxes,) = model.label_anchors(anchors, [truth(classes=[])])
    assert labels.tolist() == [3]
    assert boxes.shape == (1, 4)


def one_positive(model: RetinaNet) -> dict[str, torch.Tensor]:
    """A step with one positive, one background and one ignored anchor, all predictions 0."""
    return model.dense_losses(
        [Boxes(torch.tensor([[0.0, 0, 10, 10]] * 3))],
        [torch.zeros(1, 3, 3)],
        [torch.tensor([0, 3, -1])],
        [torch.zeros(1, 3, 4)],
        [torch.tensor([[5.0, 0, 15, 10]] * 3)],
    )


def test_losses_are_divided_by_the_moving_number_of_positives(model: RetinaNet) -> None:
    first = one_positive(model)
    normalizer = 0.9 * 100 + 0.1 * 1
    assert float(first["loss_box_reg"]) == pytest.approx(0.5 / normalizer)
    focal = (0.25 + 5 * 0.75) * 0.25 * LN2
    assert float(first["loss_cls"]) == pytest.approx(focal / normalizer)
    second = one_positive(model)
    normalizer = 0.9 * normalizer + 0.1
    assert float(second["loss_box_reg"]) == pytest.approx(0.5 / normalizer)
    assert model.training_figures == {"num_pos_anchors": 1.0}


def test_a_resumed_training_continues_with_its_normalizer(model: RetinaNet) -> None:
    one_positive(model)
    state = model.training_state()
    assert state == {"loss_normalizer": pytest.approx(90.1)}
    resumed = tiny_model(META_ARCHITECTURE="RetinaNet", **L1)
    resumed.load_training_state(state)
    assert one_positive(resumed) == one_positive(model)


@pytest.mark.parametrize("state", [{}, {"loss_normalizer": 1.0, "ema": 2.0}, {"ema": 1.0}])
def test_the_state_of_another_training_is_refused(model: RetinaNet, state: dict) -> None:
    with pytest.raises(ValueError, match="one number, loss_normalizer"):
        model.load_training_state(state)


@pytest.mark.parametrize("loss_type", ["smooth_l1", "giou", "diou", "ciou"])
def test_a_step_reaches_every_parameter(loss_type: str) -> None:
    model = tiny_model(META_ARCHITECTURE="RetinaNet", RETINANET__BBOX_REG_LOSS_TYPE=loss_type)
    losses = model.train()(
        [tiny_training_input([10.0, 10, 50, 40], [60.0, 20, 70, 30]), tiny_training_input()]
    )
    assert list(losses) == ["loss_cls", "loss_box_reg"]
    assert all(float(loss.detach()) > 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.any() for name, p in model.named_parameters() if name.endswith("weight"))


def test_images_without_objects_teach_that_there_is_nothing(model: RetinaNet) -> None:
    losses = model([tiny_training_input(), tiny_training_input(seed=1)])
    sum(losses.values()).backward()
    assert float(losses["loss_cls"].detach()) > 0
    assert float(losses["loss_box_reg"].detach()) == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_class_that_the_model_does_not_have_is_told(model: RetinaNet) -> None:
    inputs = tiny_training_input([10.0, 10, 50, 40])
    inputs["instances"].gt_classes = torch.tensor([3])
    with pytest.raises(ValueError, match="class 3"):
        model([inputs])


def test_learning_changes_no_answer(model: RetinaNet) -> None:
    inputs = tiny_training_input([10.0, 10, 50, 40])
    before = model.eval()([inputs])[0]["instances"]
    model.train()([inputs])
    after = model.eval()([inputs])[0]["instances"]
    assert torch.equal(before.scores, after.scores)
    assert torch.equal(before.pred_boxes.tensor, after.pred_boxes.tensor)
