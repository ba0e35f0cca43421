"""FCOS learning: which cells learn what, how central they are, and a whole step."""

import math

import pytest
import torch
from tiny_models import PlainPyramid, tiny_config
from tiny_truth import tiny_training_input

from models import FCOS, Boxes, Instances, ShapeSpec
from models.architectures import FCOSHead

STRIDES = [4, 8, 16, 32, 64]
LN2 = math.log(2)


@pytest.fixture
def model() -> FCOS:
    torch.manual_seed(0)
    shapes = [ShapeSpec(channels=8, stride=stride) for stride in STRIDES]
    return FCOS(
        backbone=PlainPyramid(tiny_config(), ShapeSpec(channels=3)),
        head=FCOSHead(input_shape=shapes, num_classes=3, conv_dims=[8]),
        num_classes=3,
        pixel_mean=[0.0, 0.0, 0.0],
        pixel_std=[60.0, 60.0, 60.0],
    ).train()


def levels(model: FCOS, side: int = 128) -> list[Boxes]:
    """The anchors of a square image."""
    return model.anchor_generator([torch.zeros(1, 8, side // s, side // s) for s in STRIDES])


def objects(*boxes: list[float]) -> Instances:
    """The i-th box is of class i."""
    return Instances(
        (128, 128),
        gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
        gt_classes=torch.arange(len(boxes)),
    )


def positives(model: FCOS, *boxes: list[float]) -> dict[tuple[float, float, float], int]:
    """Stride, x and y of each cell's middle that learns an object, and which."""
    anchors = levels(model)
    (labels,), (matched,) = model.label_anchors(anchors, [objects(*boxes)])
    found = {}
    for place in (labels != 3).nonzero().flatten().tolist():
        x1, y1, x2, y2 = Boxes.cat(anchors).tensor[place].tolist()
        found[x2 - x1, (x1 + x2) / 2, (y1 + y2) / 2] = int(labels[place])
        assert matched[place].tolist() == boxes[int(labels[place])]
    return found


def cells(stride: float, xs: list[float], ys: list[float]) -> set[tuple[float, float, float]]:
    return {(stride, x, y) for x in xs for y in ys}


def test_cells_near_the_centre_learn_the_object(model: FCOS) -> None:
    # Cells of 4 pixels have their middles at 2, 6, 10, ...; 1.5 of them is 6 pixels, exclusive.
    found = positives(model, [0.0, 0, 16, 16])
    assert set(found) == cells(4, [6, 10], [6, 10])


def test_a_cell_lies_inside_of_its_object(model: FCOS) -> None:
    # 3 pixels high around y = 10: the cells above and below are near, but outside.
    assert set(positives(model, [4.0, 8.5, 16, 11.5])) == cells(4, [6, 10, 14], [10])


def test_the_distance_to_the_farthest_side_decides_the_level(model: FCOS) -> None:
    # Below 32 pixels the first level, then the second one to 64.
    assert set(positives(model, [0.0, 0, 44, 44])) == cells(4, [18, 22, 26], [18, 22, 26])
    assert set(positives(model, [0.0, 0, 64, 64])) == cells(8, [28, 36], [28, 36])


def test_the_coarsest_level_takes_what_is_larger(model: FCOS) -> None:
    found = positives(model, [-2000.0, -2000, 2128, 2128])
    assert set(found) == cells(64, [32, 96], [32, 96])


def test_the_smallest_object_wins(model: FCOS) -> None:
    found = positives(model, [0.0, 0, 16, 16], [2.0, 2, 14, 14], [0.0, -0.5, 16, 16.5])
    assert set(found.values()) == {1}


def test_an_image_without_objects_has_no_positives(model: FCOS) -> None:
    assert positives(model) == {}


def test_a_cell_in_the_middle_is_the_most_central(model: FCOS) -> None:
    anchors = torch.tensor([[4.0, 4, 8, 8], [6.0, 6, 10, 10]])  # middles (6, 6) and (8, 8)
    targets = model.centerness_targets(anchors, torch.tensor([[0.0, 0, 16, 16]] * 2))
    assert targets.tolist() == pytest.approx([0.6, 1.0])


def flat_losses(model: FCOS) -> dict[str, torch.Tensor]:
    """A step on the four cells around (8, 8) with every prediction 0."""
    anchors = levels(model)
    labels, boxes = model.label_anchors(anchors, [objects([0.0, 0, 16, 16])])
    logits, deltas, centers = (
        [torch.zeros(1, len(level), channels) for level in anchors] for channels in (3, 4, 1)
    )
    return model.dense_losses(anchors, logits, labels, deltas, boxes, centers)


def test_losses_are_divided_by_the_moving_number_of_positive_cells(model: FCOS) -> None:
    losses = flat_losses(model)
    normalizer = 0.9 * 300 + 0.1 * 4
    number = sum(map(len, levels(model))) * 3
    focal = (4 * 0.25 + (number - 4) * 0.75) * 0.25 * LN2
    assert float(losses["loss_fcos_cls"]) == pytest.approx(focal / normalizer)
    # A box without sides overlaps nothing and its hull is the object: GIoU is 0.
    assert float(losses["loss_fcos_loc"]) == pytest.approx(4 / normalizer)
    assert float(losses["loss_fcos_ctr"]) == pytest.approx(4 * LN2 / normalizer)
    assert model.training_state() == {"loss_normalizer": pytest.approx(normalizer)}
    assert model.training_figures == {"num_pos_anchors": 4.0}


def test_a_step_reaches_every_parameter(model: FCOS) -> None:
    losses = model([tiny_training_input([10.0, 10, 50, 40]), tiny_training_input()])
    assert list(losses) == ["loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"]
    sum(losses.values()).backward()
    assert all(float(loss.detach()) > 0 for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_images_without_objects_cost_what_is_found_in_them(model: FCOS) -> None:
    losses = model([tiny_training_input(), tiny_training_input(seed=1)])
    sum(losses.values()).backward()
    assert float(losses["loss_fcos_cls"].detach()) > 0
    assert [float(losses[f"loss_fcos_{name}"].detach()) for name in ("loc", "ctr")] == [0, 0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
