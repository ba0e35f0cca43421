"""RROIHeads: the choice of rotated detections, pooling, rescaling, and what the config must say."""

import golden
import pytest
import torch
from torch import Tensor

from models import (
    Boxes,
    Config,
    Instances,
    ROIPooler,
    RotatedBoxes,
    RROIHeads,
    ShapeSpec,
    detector_postprocess,
    load_config,
)
from models.errors import ConfigError
from models.heads import fast_rcnn_inference

SHAPES = {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in range(2, 7)}


@pytest.fixture(scope="module")
def cfg() -> Config:
    path = golden.GOLDEN / "custom__faster_rcnn_R_50_FPN_rotated" / "config.yaml"
    return load_config(path).override("MODEL.ROI_BOX_HEAD.FC_DIM", 16)


def detect(boxes: Tensor, scores: Tensor, topk: int = 100) -> tuple[Instances, list[int]]:
    instances, index = fast_rcnn_inference(
        [boxes], [scores], [(100, 100)], 0.05, 0.5, topk, rotated=True
    )
    return instances[0], index[0].tolist()


BARS = torch.tensor([[50.0, 50, 40, 4, 30], [50, 50, 40, 4, 33], [50, 50, 40, 4, 120]])


def test_one_class_is_suppressed_and_others_are_not() -> None:
    scores = torch.tensor([[0.6, 0.0, 0.4], [0.9, 0.04, 0.06], [0.2, 0.3, 0.5]])
    detections, regions = detect(BARS, scores)
    assert regions == [1, 2, 2]
    assert detections.pred_classes.tolist() == [0, 1, 0]
    torch.testing.assert_close(detections.scores, torch.tensor([0.9, 0.3, 0.2]))
    assert isinstance(detections.pred_boxes, RotatedBoxes)
    torch.testing.assert_close(detections.pred_boxes.tensor, BARS[[1, 2, 2]])


def test_each_class_has_its_own_boxes() -> None:
    detections, _ = detect(torch.cat((BARS[:1], BARS[2:]), dim=1), torch.tensor([[0.2, 0.7, 0.1]]))
    torch.testing.assert_close(detections.pred_boxes.tensor, BARS[[2, 0]])
    assert detections.pred_classes.tolist() == [1, 0]


@pytest.mark.parametrize(("topk", "number"), [(1, 1), (0, 0), (-1, 2)])
def test_the_number_of_detections_is_limited(topk: int, number: int) -> None:
    scores = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.8, 0.2]])
    assert len(detect(BARS, scores, topk)[0]) == number


def test_broken_regions_are_dropped_and_indices_still_count_them() -> None:
    boxes = BARS.clone()
    boxes[0, 2] = torch.inf
    scores = torch.tensor([[0.9, 0.1], [torch.nan, 0.1], [0.8, 0.2]])
    assert detect(boxes, scores)[1] == [2]


def test_no_regions() -> None:
    detections, regions = detect(torch.zeros(0, 10), torch.zeros(0, 3))
    assert len(detections) == 0
    assert regions == []


def test_heads_detect_from_rotated_proposals(cfg: Config) -> None:
    torch.manual_seed(0)
    heads = RROIHeads(cfg, SHAPES).eval()
    assert heads.box_predictor.bbox_pred.out_features == 15 * 5
    features = {
        name: torch.randn(2, 8, 128 // s.stride, 128 // s.stride) for name, s in SHAPES.items()
    }
    proposals = [
        Instances((128, 128), proposal_boxes=RotatedBoxes(boxes)) for boxes in (BARS, BARS[:0])
    ]
    with torch.no_grad():
        detections, losses = heads(None, features, proposals)
    assert losses == {}
    assert len(detections[0]) > 0
    assert len(detections[1]) == 0
    assert all(isinstance(d.pred_boxes, RotatedBoxes) for d in detections)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignV2"),
        ("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", [10.0, 10.0, 5.0, 5.0]),
        ("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", True),
        ("MODEL.MASK_ON", True),
        ("MODEL.KEYPOINT_ON", True),
    ],
)
def test_a_config_that_does_not_fit_is_refused(cfg: Config, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        RROIHeads(cfg.override(key, value), SHAPES)


def test_the_pooler_takes_each_rotated_box_from_its_level() -> None:
    levels = [torch.full((2, 3, 64, 64), 2.0), torch.full((2, 3, 32, 32), 3.0)]
    levels[0][1] += 10
    levels[1][1] += 10
    pooler = ROIPooler(2, [1 / 4, 1 / 8], 0, "ROIAlignRotated")
    small, large = [128.0, 128, 40, 40, 30], [128.0, 128, 160, 120, -70]
    pooled = pooler(
        levels, [RotatedBoxes(torch.tensor([small, large])), RotatedBoxes(torch.tensor([small]))]
    )
    assert pooled.shape == (3, 3, 2, 2)
    torch.testing.assert_close(pooled.mean(dim=(1, 2, 3)), torch.tensor([2.0, 3.0, 12.0]))


def test_upright_rotated_boxes_pool_as_boxes_do() -> None:
    levels = [torch.randn(1, 3, 64, 64), torch.randn(1, 3, 32, 32)]
    upright = Boxes(torch.tensor([[10.0, 20, 90, 70], [30, 40, 230, 200]]))
    sides = upright.tensor[:, 2:] - upright.tensor[:, :2]
    rotated = RotatedBoxes(torch.cat((upright.get_centers(), sides, torch.zeros(2, 1)), dim=1))
    expected = ROIPooler(3, [1 / 4, 1 / 8], 0, "ROIAlignV2")(levels, [upright])
    ours = ROIPooler(3, [1 / 4, 1 / 8], 0, "ROIAlignRotated")(levels, [rotated])
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_postprocessing_scales_clips_and_drops_rotated_boxes() -> None:
    boxes = torch.tensor([[50.0, 50, 40, 4, 30], [0, 50, 20, 10, 0], [50, 50, 0, 10, 30]])
    raw = Instances(
        (100, 100), pred_boxes=RotatedBoxes(boxes), scores=torch.tensor([0.9, 0.8, 0.7])
    )
    result = detector_postprocess(raw, 200, 200)
    assert result.image_size == (200, 200)
    torch.testing.assert_close(result.scores, torch.tensor([0.9, 0.8]))
    expected = torch.tensor([[100.0, 100, 80, 8, 30], [10, 100, 20, 20, 0]])
    torch.testing.assert_close(result.pred_boxes.tensor, expected, atol=1e-4, rtol=0)
    assert torch.equal(raw.pred_boxes.tensor, boxes)
