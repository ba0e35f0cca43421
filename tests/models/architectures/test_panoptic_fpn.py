"""Panoptic FPN: how instances and stuff become one map, and the model as a whole."""

from typing import Any

import pytest
import torch
from tiny_models import tiny_config, tiny_image, tiny_model
from tiny_truth import tiny_training_input
from torch import Tensor

from models import Boxes, Instances, PanopticFPN, build_model
from models.architectures.panoptic_fpn import combine_semantic_and_instance_outputs
from models.errors import ConfigError

LEFT, RIGHT, ALL = [0.0, 0.0, 20.0, 20.0], [20.0, 0.0, 40.0, 20.0], [0.0, 0.0, 40.0, 20.0]
THINGS = torch.zeros(20, 40, dtype=torch.int64)


def instances(*boxes: list[float], scores: list[float], classes: list[int] | None = None):
    """Instances whose masks fill their boxes, in an image of 20 x 40 pixels."""
    return Instances(
        (20, 40),
        pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(classes or [0] * len(boxes), dtype=torch.int64),
        pred_masks=torch.ones(len(boxes), 1, 28, 28),
    )


def combine(
    found: Instances, semantic: Tensor = THINGS, **kwargs: float
) -> tuple[Tensor, list[dict[str, Any]]]:
    rules = {"overlap_threshold": 0.5, "stuff_area_thresh": 100, "instances_score_thresh": 0.5}
    return combine_semantic_and_instance_outputs(found, semantic, **(rules | kwargs))


def test_instances_are_numbered_by_score_and_remember_who_they_were() -> None:
    segments, info = combine(instances(LEFT, RIGHT, scores=[0.6, 0.9], classes=[3, 5]))
    assert info == [
        {"id": 1, "isthing": True, "score": pytest.approx(0.9), "category_id": 5, "instance_id": 1},
        {"id": 2, "isthing": True, "score": pytest.approx(0.6), "category_id": 3, "instance_id": 0},
    ]
    assert segments.dtype == torch.int32
    assert (segments[:, :20] == 2).all()
    assert (segments[:, 20:] == 1).all()


def test_the_better_instance_keeps_the_pixels_that_both_want() -> None:
    wide = [0.0, 0.0, 28.0, 20.0]
    segments, info = combine(instances(wide, RIGHT, scores=[0.9, 0.8]))
    assert len(info) == 2
    assert (segments[:, :28] == 1).all()
    assert (segments[:, 28:] == 2).all()


def test_an_instance_goes_when_more_of_it_is_covered_than_the_threshold() -> None:
    _, half = combine(instances(LEFT, ALL, scores=[0.9, 0.8]))
    assert len(half) == 2  # exactly half of the second one is covered
    _, more = combine(instances([0.0, 0.0, 21.0, 20.0], ALL, scores=[0.9, 0.8]))
    assert [segment["instance_id"] for segment in more] == [0]


def test_what_is_left_out_covers_nothing() -> None:
    boxes = [LEFT, [0.0, 0.0, 30.0, 20.0], [18.0, 0.0, 40.0, 20.0]]
    segments, info = combine(instances(*boxes, scores=[0.9, 0.8, 0.7]))
    assert [segment["instance_id"] for segment in info] == [0, 2]
    assert (segments[:, 20:] == 2).all()


def test_instances_below_the_score_threshold_end_the_search() -> None:
    found = instances(LEFT, RIGHT, scores=[0.5, 0.4999])
    segments, info = combine(found)
    assert [segment["instance_id"] for segment in info] == [0]
    assert not segments[:, 20:].any()


def test_an_instance_without_pixels_is_left_out() -> None:
    found = instances(LEFT, RIGHT, scores=[0.9, 0.8])
    found.pred_masks[0] = 0.1
    _, info = combine(found)
    assert [(segment["id"], segment["instance_id"]) for segment in info] == [(1, 1)]


def test_stuff_fills_what_instances_leave_in_the_order_of_its_classes() -> None:
    semantic = torch.full((20, 40), 7)
    semantic[:10] = 2
    segments, info = combine(instances(LEFT, scores=[0.9]), semantic)
    assert info[1:] == [
        {"id": 2, "isthing": False, "category_id": 2, "area": 200},
        {"id": 3, "isthing": False, "category_id": 7, "area": 200},
    ]
    assert (segments[:, :20] == 1).all()
    assert (segments[:10, 20:] == 2).all()
    assert (segments[10:, 20:] == 3).all()


@pytest.mark.parametrize(("limit", "kept"), [(400, 1), (401, 0)])
def test_stuff_of_fewer_free_pixels_than_the_limit_is_left_out(limit: int, kept: int) -> None:
    semantic = torch.full((20, 40), 7)
    segments, info = combine(instances(LEFT, scores=[0.9]), semantic, stuff_area_thresh=limit)
    assert len(info) == 1 + kept
    assert segments[0, 39].item() == 2 * kept


def test_class_0_stands_for_things_and_is_no_stuff() -> None:
    segments, info = combine(instances(scores=[]), THINGS)
    assert info == []
    assert not segments.any()


def test_without_instances_there_is_only_stuff() -> None:
    _, info = combine(instances(scores=[]), torch.full((20, 40), 3))
    assert info == [{"id": 1, "isthing": False, "category_id": 3, "area": 800}]


@pytest.fixture(scope="module")
def model() -> PanopticFPN:
    return tiny_model(
        META_ARCHITECTURE="PanopticFPN",
        MASK_ON=True,
        PANOPTIC_FPN__COMBINE__STUFF_AREA_LIMIT=50,
        PANOPTIC_FPN__COMBINE__INSTANCES_CONFIDENCE_THRESH=0.3,
    )


def test_an_answer_has_all_three_at_the_size_that_is_asked_for(model: PanopticFPN) -> None:
    (answer,) = model([{"image": tiny_image(), "height": 64, "width": 100}])
    assert set(answer) == {"instances", "sem_seg", "panoptic_seg"}
    found = answer["instances"]
    assert len(found) > 0
    assert found.pred_masks.shape == (len(found), 64, 100)
    assert answer["sem_seg"].shape == (5, 64, 100)
    segments, info = answer["panoptic_seg"]
    assert segments.shape == (64, 100)
    assert set(segments.unique().tolist()) <= {0, *(segment["id"] for segment in info)}


def test_predict_differs_from_the_call_in_the_masks_alone(model: PanopticFPN) -> None:
    inputs = [{"image": tiny_image()}]
    (soft,), (called,) = model.predict(inputs), model(inputs)
    assert soft["instances"].pred_masks.shape[1:] == (1, 28, 28)
    assert torch.equal(soft["instances"].scores, called["instances"].scores)
    assert torch.equal(soft["sem_seg"], called["sem_seg"])
    assert torch.equal(soft["panoptic_seg"][0], called["panoptic_seg"][0])
    assert soft["panoptic_seg"][1] == called["panoptic_seg"][1]


def test_the_config_sets_the_rules(model: PanopticFPN) -> None:
    assert model.combine_stuff_area_thresh == 50
    assert model.combine_overlap_thresh == 0.5
    assert model.combine_instances_score_thresh == 0.3


def test_it_needs_masks() -> None:
    with pytest.raises(ConfigError, match=r"needs MODEL\.MASK_ON"):
        build_model(tiny_config(META_ARCHITECTURE="PanopticFPN"))


INSTANCE_LOSSES = {"loss_cls", "loss_box_reg", "loss_mask"}
PROPOSAL_LOSSES = {"loss_rpn_cls", "loss_rpn_loc"}


def learn(*boxes: list[float], **changes: Any) -> tuple[PanopticFPN, dict[str, Tensor]]:
    """One step with the same samples each time."""
    model = tiny_model(META_ARCHITECTURE="PanopticFPN", MASK_ON=True, **changes).train()
    torch.manual_seed(0)
    return model, model([tiny_training_input(*boxes), tiny_training_input(seed=1)])


def test_it_learns_instances_and_stuff() -> None:
    model, losses = learn([10.0, 10, 50, 40], [60.0, 20, 90, 80])
    assert set(losses) == {*INSTANCE_LOSSES, *PROPOSAL_LOSSES, "loss_sem_seg"}
    assert all(float(loss.detach()) > 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_weight_of_instances_is_of_what_the_roi_heads_cost() -> None:
    boxes = [10.0, 10, 50, 40], [60.0, 20, 90, 80]
    _, plain = learn(*boxes)
    _, weighted = learn(*boxes, PANOPTIC_FPN__INSTANCE_LOSS_WEIGHT=3.0)
    for name, loss in plain.items():
        expected = loss * (3 if name in INSTANCE_LOSSES else 1)
        torch.testing.assert_close(weighted[name], expected)


def test_images_without_objects_reach_every_parameter() -> None:
    model, losses = learn()
    assert float(losses["loss_mask"].detach()) == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_it_needs_the_classes_of_pixels() -> None:
    model = tiny_model(META_ARCHITECTURE="PanopticFPN", MASK_ON=True).train()
    inputs = tiny_training_input([10.0, 10, 50, 40])
    del inputs["sem_seg"]
    with pytest.raises(ValueError, match="'sem_seg'"):
        model([inputs])
