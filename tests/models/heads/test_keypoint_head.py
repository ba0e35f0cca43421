"""Keypoint heads: names, resolution, and whose keypoints are whose."""

import pytest
import torch
import torch.nn.functional as F

from models import BaseKeypointRCNNHead, Boxes, Instances, ShapeSpec, build_keypoint_head
from models.config import default_config
from models.heads import KRCNNConvDeconvUpsampleHead
from models.structures.keypoints import heatmaps_to_keypoints


def head() -> KRCNNConvDeconvUpsampleHead:
    torch.manual_seed(0)
    shape = ShapeSpec(channels=4, height=5, width=5)
    return KRCNNConvDeconvUpsampleHead(shape, num_keypoints=3, conv_dims=[6, 8])


def detected(*counts: int) -> list[Instances]:
    boxes = torch.tensor([[3.0, 4.0, 33.0, 44.0]])
    return [Instances((60, 60), pred_boxes=Boxes(boxes.repeat(n, 1))) for n in counts]


def test_layers_have_the_names_of_checkpoints() -> None:
    shapes = {name: tuple(value.shape) for name, value in head().state_dict().items()}
    assert shapes == {
        "conv_fcn1.weight": (6, 4, 3, 3),
        "conv_fcn1.bias": (6,),
        "conv_fcn2.weight": (8, 6, 3, 3),
        "conv_fcn2.bias": (8,),
        "score_lowres.weight": (8, 3, 4, 4),
        "score_lowres.bias": (3,),
    }


def test_logits_have_four_times_the_resolution() -> None:
    x, ours = torch.randn(2, 4, 5, 5), head()
    hidden = F.relu(ours.conv_fcn2(F.relu(ours.conv_fcn1(x))))
    low = F.conv_transpose2d(
        hidden, ours.score_lowres.weight, ours.score_lowres.bias, stride=2, padding=1
    )
    assert low.shape == (2, 3, 10, 10)
    expected = F.interpolate(low, size=(20, 20), mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours.layers(x), expected)


def test_each_image_gets_its_keypoints() -> None:
    x, ours = torch.randn(3, 4, 5, 5), head()
    instances = detected(1, 0, 2)
    returned = ours(x, instances)
    assert [a is b for a, b in zip(returned, instances, strict=True)] == [True] * 3
    assert [y.pred_keypoints.shape for y in returned] == [(1, 3, 3), (0, 3, 3), (2, 3, 3)]
    boxes = torch.cat([y.pred_boxes.tensor for y in instances])
    expected = heatmaps_to_keypoints(ours.layers(x), boxes)
    torch.testing.assert_close(torch.cat([y.pred_keypoints for y in returned]), expected)


def test_no_instances_get_no_keypoints() -> None:
    (none,) = head()(torch.zeros(0, 4, 5, 5), detected(0))
    assert none.pred_keypoints.shape == (0, 3, 3)


@pytest.mark.parametrize(("visible", "normalizer"), [(True, "visible"), (False, 17 * 512 * 0.25)])
def test_a_config_gives_the_head_of_the_zoo(visible: bool, normalizer: float | str) -> None:
    cfg = default_config().override(
        "MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS", visible
    )
    with torch.device("meta"):
        ours = build_keypoint_head(cfg, ShapeSpec(channels=256, height=14, width=14))
        assert ours.layers(torch.zeros(1, 256, 14, 14)).shape == (1, 17, 56, 56)
    assert isinstance(ours, KRCNNConvDeconvUpsampleHead)
    assert ours.loss_normalizer == normalizer


def test_the_base_alone_predicts_nothing() -> None:
    with pytest.raises(NotImplementedError):
        BaseKeypointRCNNHead(num_keypoints=3)(torch.zeros(1, 4, 5, 5), detected(1))
