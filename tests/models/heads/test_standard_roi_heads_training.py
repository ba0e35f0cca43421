"""StandardROIHeads in training: what is sampled, which heads learn from what, nothing to learn from."""

from typing import Any

import pytest
import torch
from tiny_models import tiny_config
from torch import Tensor

from models import BitMasks, Boxes, Instances, ShapeSpec, StandardROIHeads, build_roi_heads
from models.structures import Keypoints

SIZE = (64, 96)
SHAPES = {f"p{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 7)}
OBJECT, OTHER = [8.0, 8.0, 40.0, 40.0], [60.0, 20.0, 90.0, 60.0]
AWAY = [0.0, 50.0, 10.0, 60.0]
BACKGROUND = 3


def features(requires_grad: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(
            2, 8, SIZE[0] // shape.stride, SIZE[1] // shape.stride, generator=generator
        ).requires_grad_(requires_grad)
        for name, shape in SHAPES.items()
    }


def heads(**overrides: Any) -> StandardROIHeads:
    torch.manual_seed(0)
    built: StandardROIHeads = build_roi_heads(tiny_config(**overrides), SHAPES)
    return built.train()


def proposals(*boxes: list[float]) -> Instances:
    return Instances(
        SIZE,
        proposal_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
        objectness_logits=torch.zeros(len(boxes)),
    )


def truth(*boxes: list[float]) -> Instances:
    """Objects with masks that fill their boxes, and two keypoints: in the middle, and not labelled."""
    tensor = torch.tensor(boxes).reshape(-1, 4)
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    keypoints = torch.zeros(len(boxes), 4, 3)
    for i, (x1, y1, x2, y2) in enumerate(tensor.int().tolist()):
        masks[i, y1:y2, x1:x2] = True
        keypoints[i, 0] = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2, 2])
    return Instances(
        SIZE,
        gt_boxes=Boxes(tensor),
        gt_classes=torch.arange(len(boxes)),
        gt_masks=BitMasks(masks),
        gt_keypoints=Keypoints(keypoints),
    )


def train(built: StandardROIHeads, *given: tuple[Instances, Instances], maps: Any = None) -> Any:
    found, truths = zip(*given, strict=True)
    _, losses = built(None, maps or features(), list(found), list(truths))
    return losses


SEEN = (proposals(OBJECT, AWAY), truth(OBJECT, OTHER))
EMPTY = (proposals(AWAY), truth())


def test_sampled_proposals_carry_all_of_their_ground_truth() -> None:
    built = heads()
    (sampled, empty) = built.label_and_sample_proposals([SEEN[0], EMPTY[0]], [SEEN[1], EMPTY[1]])
    by_box = {tuple(box.tolist()): i for i, box in enumerate(sampled.proposal_boxes)}
    assert set(by_box) == {tuple(OBJECT), tuple(OTHER), tuple(AWAY)}  # the objects are among them
    other, away = by_box[tuple(OTHER)], by_box[tuple(AWAY)]
    assert sampled.gt_classes.tolist().count(0) == 2  # the proposal, and the object itself
    assert int(sampled.gt_classes[other]) == 1
    assert int(sampled.gt_classes[away]) == BACKGROUND
    assert sampled.gt_boxes.tensor[other].tolist() == OTHER
    assert torch.equal(sampled.gt_masks.tensor[other], SEEN[1].gt_masks.tensor[1])
    assert sampled.gt_keypoints.tensor[other, 0].tolist() == [75, 40, 2]
    assert empty.gt_classes.tolist() == [BACKGROUND]
    assert not empty.has("gt_boxes")
    assert built.training_figures == {
        "roi_head/num_fg_samples": 1.5,
        "roi_head/num_bg_samples": 1.0,
    }


def test_objects_stay_out_of_the_proposals_if_the_config_says_so() -> None:
    built = heads(ROI_HEADS__PROPOSAL_APPEND_GT=False)
    (sampled,) = built.label_and_sample_proposals([SEEN[0]], [SEEN[1]])
    assert sorted(sampled.gt_classes.tolist()) == [0, BACKGROUND]


def test_no_more_than_the_batch_size_is_sampled_with_its_share_of_positives() -> None:
    built = heads(ROI_HEADS__BATCH_SIZE_PER_IMAGE=8, ROI_HEADS__POSITIVE_FRACTION=0.25)
    many = proposals(*[OBJECT] * 9, *[AWAY] * 9)
    (sampled,) = built.label_and_sample_proposals([many], [truth(OBJECT)])
    assert (sampled.gt_classes == 0).sum() == 2
    assert (sampled.gt_classes == BACKGROUND).sum() == 6


def test_masks_and_keypoints_learn_from_the_foreground_alone() -> None:
    built = heads(MASK_ON=True, KEYPOINT_ON=True)
    seen: dict[str, list[list[list[float]]]] = {}

    def spy(name: str) -> Any:
        def forward(regions: Tensor, instances: list[Instances]) -> dict[str, Tensor]:
            seen[name] = [x.proposal_boxes.tensor.tolist() for x in instances]
            assert len(regions) == sum(len(boxes) for boxes in seen[name])
            assert all(x.has("gt_masks") for x in instances if len(x))
            return {f"loss_{name}": regions.sum()}

        return forward

    built.mask_head.forward, built.keypoint_head.forward = spy("mask"), spy("keypoint")
    low = [8.0, 8.0, 40.0, 23.0]  # of the object, without its keypoint
    given = (proposals(OBJECT, [8.0, 8.0, 40.0, 25.0], low, AWAY), truth(OBJECT))
    built.proposal_matcher.bounds[1] = 0.4
    losses = train(built, given, EMPTY)
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_mask", "loss_keypoint"}
    assert sorted(map(str, seen["mask"][0])) == sorted(
        map(str, [OBJECT, OBJECT, [8.0, 8.0, 40.0, 25.0], low])
    )
    assert low not in seen["keypoint"][0]
    assert len(seen["keypoint"][0]) == 3
    assert seen["mask"][1] == seen["keypoint"][1] == []


@pytest.mark.parametrize("given", [(SEEN, EMPTY), (EMPTY, EMPTY), ((proposals(), truth()),) * 2])
def test_every_weight_and_every_map_gets_a_gradient_whatever_there_is(given: Any) -> None:
    built = heads(MASK_ON=True, KEYPOINT_ON=True)
    maps = features(requires_grad=True)
    losses = train(built, *given, maps=maps)
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_mask", "loss_keypoint"}
    sum(losses.values()).backward()
    assert all(bool(loss.isfinite()) for loss in losses.values())
    assert [name for name, p in built.named_parameters() if p.grad is None] == []
    assert all(bool(p.grad.isfinite().all()) for p in built.parameters())
    assert all(maps[name].grad is not None for name in built.box_in_features)


def test_without_foreground_only_the_classes_cost() -> None:
    losses = train(heads(MASK_ON=True, KEYPOINT_ON=True), EMPTY, EMPTY)
    zero = {name for name, loss in losses.items() if float(loss.detach()) == 0}
    assert zero == {"loss_box_reg", "loss_mask", "loss_keypoint"}


@pytest.mark.parametrize("on_predictions", [False, True])
def test_masks_can_be_learnt_on_predicted_boxes(on_predictions: bool) -> None:
    built = heads(MASK_ON=True, ROI_BOX_HEAD__TRAIN_ON_PRED_BOXES=on_predictions)
    torch.nn.init.zeros_(built.box_predictor.bbox_pred.weight)
    built.box_predictor.bbox_pred.bias.data[0::4] = 10 * 0.25  # a quarter of the width to the right
    seen: list[list[float]] = []

    def forward(regions: Tensor, instances: list[Instances]) -> dict[str, Tensor]:
        seen.extend(instances[0].proposal_boxes.tensor.tolist())
        return {"loss_mask": regions.sum()}

    built.mask_head.forward = forward
    train(built, (proposals(OBJECT), truth(OBJECT)), EMPTY)
    assert seen == [[16.0, 8.0, 48.0, 40.0] if on_predictions else OBJECT] * 2


def test_figures_of_all_heads_are_collected() -> None:
    built = heads(MASK_ON=True)
    train(built, SEEN, EMPTY)
    assert {"roi_head/num_fg_samples", "fast_rcnn/cls_accuracy", "mask_rcnn/accuracy"} <= set(
        built.training_figures
    )
    assert not any(
        isinstance(x, Tensor) and x.requires_grad for x in built.training_figures.values()
    )
