"""FCOS: anchors, scores and boxes of its cells, and its head."""

import pytest
import torch
from tiny_models import LEVELS, PlainPyramid, tiny_config, tiny_image
from torch import nn

from models import FCOS, Box2BoxTransformLinear, ShapeSpec, build_model
from models.architectures import FCOSHead, dense_detector
from models.errors import ConfigError

STRIDES = [4, 8, 16, 32, 64]


@pytest.fixture(autouse=True, params=[False, True], ids=["one by one", "together"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule holds on a CPU, image by image, and as a GPU does it, all at once."""
    monkeypatch.setattr(dense_detector, "pays_together", lambda device: request.param)


def fcos(head: nn.Module, **kwargs) -> FCOS:
    return FCOS(
        backbone=PlainPyramid(tiny_config(), ShapeSpec(channels=3)),
        head=head,
        num_classes=3,
        pixel_mean=[0.0, 0.0, 0.0],
        pixel_std=[1.0, 1.0, 1.0],
        **kwargs,
    ).eval()


class OneHotHead(nn.Module):
    """One cell, at row 2 and column 3 of level p3, with given logits and distances."""

    def __init__(self, cls: float, center: float, distances: list[float]) -> None:
        super().__init__()
        self.cls, self.center, self.distances = cls, center, distances

    def forward(self, features):
        logits, deltas, centers = (
            [torch.full((len(f), channels, *f.shape[-2:]), value) for f in features]
            for channels, value in ((3, -20.0), (4, 0.0), (1, 0.0))
        )
        logits[1][0, 1, 2, 3] = self.cls
        deltas[1][0, :, 2, 3] = torch.tensor(self.distances)
        centers[1][0, 0, 2, 3] = self.center
        return logits, deltas, centers


def test_the_default_features_are_all_from_fine_to_coarse() -> None:
    assert fcos(nn.Identity()).head_in_features == tuple(LEVELS)


def test_anchors_are_squares_of_the_stride_in_the_middle_of_their_cells() -> None:
    model = fcos(nn.Identity())
    levels = model.anchor_generator([torch.zeros(1, 8, 2, 2) for _ in STRIDES])
    assert model.anchor_generator.num_anchors == [1] * 5
    for stride, anchors in zip(STRIDES, levels, strict=True):
        assert anchors.tensor[0].tolist() == [0, 0, stride, stride]
        assert anchors.tensor[1].tolist() == [stride, 0, 2 * stride, stride]


def test_a_score_is_the_root_of_class_times_centre_and_a_box_reaches_its_distances() -> None:
    (answer,) = fcos(OneHotHead(1.0, -0.5, [1.0, 0.5, 2.0, -3.0]))([{"image": tiny_image()}])
    found = answer["instances"]
    assert found.pred_classes.tolist() == [1]
    product = torch.tensor(1.0).sigmoid() * torch.tensor(-0.5).sigmoid()
    assert float(found.scores) == pytest.approx(float(product.sqrt()))
    # Around (28, 20) in units of 8 pixels; a negative distance counts as 0.
    assert found.pred_boxes.tensor.tolist() == [[20, 16, 44, 20]]


def test_an_uncertain_centre_can_push_a_score_below_the_threshold() -> None:
    (answer,) = fcos(OneHotHead(1.0, -6.0, [1.0] * 4))([{"image": tiny_image()}])
    assert len(answer["instances"]) == 0


def test_distances_can_be_in_pixels() -> None:
    model = fcos(
        OneHotHead(4.0, 4.0, [8.0, 4.0, 16.0, 0.0]),
        box2box_transform=Box2BoxTransformLinear(normalize_by_size=False),
    )
    (answer,) = model([{"image": tiny_image()}])
    assert answer["instances"].pred_boxes.tensor.tolist() == [[20, 16, 44, 20]]


def test_a_yaml_config_cannot_name_it() -> None:
    with pytest.raises(ConfigError, match="'FCOS', which is not in the META_ARCH registry"):
        build_model(tiny_config(META_ARCHITECTURE="FCOS"))


def head(norm: str = "") -> FCOSHead:
    torch.manual_seed(0)
    shapes = [ShapeSpec(channels=32, stride=stride) for stride in STRIDES]
    return FCOSHead(input_shape=shapes, num_classes=3, conv_dims=[32, 32], norm=norm)


def test_towers_have_a_bias_beside_their_norm() -> None:
    shapes = {name: tuple(value.shape) for name, value in head("GN").state_dict().items()}
    assert shapes["cls_subnet.0.bias"] == shapes["bbox_subnet.4.weight"] == (32,)
    assert shapes["cls_score.weight"] == (3, 32, 3, 3)
    assert shapes["bbox_pred.weight"] == (4, 32, 3, 3)
    assert shapes["ctrness.weight"] == (1, 32, 3, 3)


def test_the_centre_is_predicted_from_the_tower_of_the_boxes() -> None:
    ours, x = head(), torch.randn(2, 32, 4, 6)
    with torch.no_grad():
        logits, deltas, centers = ours([x])
        torch.testing.assert_close(logits[0], ours.cls_score(ours.cls_subnet(x)))
        torch.testing.assert_close(deltas[0], ours.bbox_pred(ours.bbox_subnet(x)))
        torch.testing.assert_close(centers[0], ours.ctrness(ours.bbox_subnet(x)))


def test_a_whole_model_answers_in_the_size_that_is_asked_for() -> None:
    shapes = [ShapeSpec(channels=8, stride=stride) for stride in STRIDES]
    torch.manual_seed(0)
    ours = FCOSHead(input_shape=shapes, num_classes=3, conv_dims=[8], prior_prob=0.5)
    inputs = [{"image": tiny_image(), "height": 48, "width": 64}]
    found = fcos(ours, test_score_thresh=0.1)(inputs)[0]["instances"]
    assert found.image_size == (48, 64)
    assert 0 < len(found) <= 100
