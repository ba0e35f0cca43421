"""The rules by which answers count as Detectron2's: each one notices what breaks it."""

from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import pytest
import torch
from golden import (
    Differences,
    GoldenRun,
    compare_features,
    compare_instances,
    compare_panoptic,
    compare_proposals,
    compare_run,
    compare_sem_seg,
)
from PIL import Image

from models import Boxes, Instances, RotatedBoxes
from models.execution import ExecutionPlan

PLAN = ExecutionPlan("reference", requested="reference", device="cpu")
BOXES = [[10.0, 10.0, 60.0, 40.0], [5.0, 30.0, 45.0, 70.0], [0.0, 0.0, 20.0, 20.0]]
SCORES = [0.9, 0.8, 0.3]  # the last one is not clear


def frames() -> torch.Tensor:
    masks = torch.zeros(3, 80, 80, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, np.array(BOXES, dtype=int), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def keypoints() -> torch.Tensor:
    x = torch.arange(3 * 10, dtype=torch.float32).reshape(3, 10)
    return torch.stack((x, 2 * x, torch.ones(3, 10)), dim=2)


def ours() -> Instances:
    return Instances(
        (80, 80),
        pred_boxes=Boxes(torch.tensor(BOXES)),
        scores=torch.tensor(SCORES),
        pred_classes=torch.tensor([1, 2, 3]),
        pred_masks=frames(),
        pred_keypoints=keypoints(),
    )


def expected() -> dict[str, Any]:
    return {
        "image_size": [80, 80],
        "pred_boxes": BOXES,
        "scores": SCORES,
        "pred_classes": [1, 2, 3],
        "pred_masks": [mask_api.encode(np.asfortranarray(m, np.uint8)) for m in frames().numpy()],
        "pred_keypoints": keypoints().tolist(),
    }


def test_the_same_instances_match_in_any_order() -> None:
    found = compare_instances(expected(), ours()[torch.tensor([2, 1, 0])])
    assert (found.clear, found.matched, found.broken) == (2, 2, [])
    assert (found.worst_box, found.worst_mask_iou) == (0, 1)
    assert found.worst_score < 1e-7
    assert (found.keypoints, found.keypoints_close) == (20, 20)


@pytest.mark.parametrize(
    ("field", "row", "change"),
    [
        ("scores", 0, 2e-3),
        ("pred_classes", 0, 1),
        ("pred_masks", (0, slice(20, 25)), True),
        ("pred_keypoints", (0, slice(0, 2), 1), 0.6),
    ],
)
def test_an_instance_that_differs_has_no_partner(field: str, row: Any, change: Any) -> None:
    instances = ours()
    if change is True:
        instances.get(field)[row] ^= True
    else:
        instances.get(field)[row] += change
    found = compare_instances(expected(), instances)
    assert (found.clear, found.matched) == (2, 1)
    assert found.unmatched == ["#0 class 1 score 0.9"]


@pytest.mark.parametrize(("shift", "matched"), [(0.05, 2), (0.3, 2), (1.0, 1)])
def test_boxes_overlap_or_are_within_a_tenth_of_a_pixel(shift: float, matched: int) -> None:
    instances = ours()
    instances.pred_boxes.tensor[0, 2] += shift
    assert compare_instances(expected(), instances).matched == matched


def test_one_keypoint_in_ten_may_differ() -> None:
    instances = ours()
    instances.pred_keypoints[0, 0, 0] += 5
    found = compare_instances(expected(), instances)
    assert (found.matched, found.keypoints_close) == (2, 19)


def test_what_lies_at_the_cut_need_not_match() -> None:
    assert compare_instances(expected(), ours()[:2]).matched == 2


def test_a_wrong_image_size_is_told() -> None:
    wrong = Instances((80, 81), **ours().get_fields())
    assert compare_instances(expected(), wrong).broken == [
        "image size (80, 81) instead of [80, 80]"
    ]


@pytest.mark.parametrize(("turn", "matched"), [(0.05, 1), (360.0, 1), (0.5, 0)])
def test_rotated_boxes_match_by_coordinates_and_angle(turn: float, matched: int) -> None:
    box = [30.0, 30.0, 20.0, 10.0, 33.0]
    wanted = {"pred_boxes": [box, box], "scores": [0.9, 0.1], "pred_classes": [0, 0]}
    rotated = RotatedBoxes(torch.tensor([[*box[:4], box[4] + turn]]))
    instances = Instances(
        (80, 80),
        pred_boxes=rotated,
        scores=torch.tensor([0.9]),
        pred_classes=torch.tensor([0]),
    )
    assert compare_instances(wanted, instances).matched == matched


def test_proposals_match_in_any_order_and_are_counted() -> None:
    wanted = {"count": 3, "proposal_boxes": BOXES, "objectness_logits": SCORES}
    proposals = Instances(
        (80, 80), proposal_boxes=ours().pred_boxes, objectness_logits=torch.tensor(SCORES)
    )
    assert compare_proposals(wanted, proposals[torch.tensor([1, 2, 0])]).broken == []
    assert len(compare_proposals(wanted, proposals[:2]).broken) == 2
    proposals.objectness_logits[1] += 0.01
    assert compare_proposals(wanted, proposals).broken == ["objectness logits"]


def test_semantic_classes_are_equal_on_998_of_1000_pixels(tmp_path: Path) -> None:
    logits = torch.zeros(3, 50, 40)
    logits[1] = 1
    Image.fromarray(np.ones((50, 40), dtype=np.uint8)).save(tmp_path / "best.png")
    wanted = {"shape": [3, 50, 40], "argmax_png": "best.png", "std": 0.5}
    wanted |= {"index": [0, 2000], "value": [0.0, 1.0]}
    assert compare_sem_seg(wanted, logits, tmp_path) == Differences(worst_sem_seg=1.0)
    logits[2, 49, :4] = 2
    assert compare_sem_seg(wanted, logits, tmp_path).broken == []
    logits[2, 48, :1] = 2
    assert "0.9975 only" in compare_sem_seg(wanted, logits, tmp_path).broken[0]
    logits[1, 0, 0] = 1.01
    assert "semantic logits" in compare_sem_seg(wanted, logits, tmp_path).broken
    assert "of shape [2, 50, 40]" in compare_sem_seg(wanted, logits[:2], tmp_path).broken[0]


def test_panoptic_segments_are_the_same_and_equal_on_99_of_100_pixels(tmp_path: Path) -> None:
    segments = torch.ones(20, 10, dtype=torch.int32)
    Image.fromarray(segments.numpy().astype(np.uint8)).save(tmp_path / "segments.png")
    info = [{"id": 1, "isthing": True, "category_id": 7, "score": 0.9, "instance_id": 0}]
    wanted = {"png": "segments.png", "segments_info": [{**info[0], "id": 1.0}]}
    assert compare_panoptic(wanted, (segments, info), tmp_path) == Differences(worst_panoptic=1.0)
    other = [{**info[0], "category_id": 8}]
    found = compare_panoptic(wanted, (segments, other), tmp_path)
    assert found.broken == ["panoptic segments are not the same"]
    segments[0, :3] = 0
    assert "0.9850 only" in compare_panoptic(wanted, (segments, info), tmp_path).broken[0]


def golden_run(feature: torch.Tensor) -> GoldenRun:
    wanted = {"shape": [1, 2, 2, 2], "mean": 0.0, "std": 1.0, "index": [0, 5], "value": [0.0, 0.0]}
    one = expected()
    everything = {
        "tta": False,
        "features": {"p2": wanted},
        "parameters": {"w": [1]},
        "outputs": [{"instances": one}],
    }
    outputs = [{"instances": ours()}]
    return GoldenRun("none", everything, {"w": [1]}, {"p2": feature}, [], outputs, PLAN)


def test_features_are_within_a_thousandth_of_their_deviation() -> None:
    assert compare_features(golden_run(torch.full((1, 2, 2, 2), 5e-4))).broken == []
    found = compare_features(golden_run(torch.full((1, 2, 2, 2), 2e-3)))
    assert found.broken == ["feature p2 differs by 2.0e-03 deviations"]
    assert compare_features(golden_run(torch.zeros(1, 2, 2, 3))).broken == ["shape of p2"]


def test_a_whole_case_needs_its_parameters_outputs_and_99_of_100_instances() -> None:
    run = golden_run(torch.zeros(1, 2, 2, 2))
    assert compare_run(run).broken == []
    run.outputs[0]["instances"] = ours()[1:]
    assert compare_run(run).broken == ["1 of 2 instances: ['#0 class 1 score 0.9']"]
    run.outputs[0]["sem_seg"] = torch.zeros(1)
    run.parameters = {}
    broken = compare_run(run).broken
    assert "names or shapes of parameters" in broken
    assert "outputs ['instances', 'sem_seg'] instead of ['instances']" in broken
