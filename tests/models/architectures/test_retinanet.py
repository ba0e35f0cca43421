"""RetinaNet: which predictions become detections, its head, and the model as a whole."""

import pytest
import torch
from tiny_models import tiny_config, tiny_image, tiny_model
from torch import nn

from models import Boxes, RetinaNet, ShapeSpec, build_model
from models.architectures import RetinaNetHead, dense_detector
from models.errors import ConfigError
from models.layers.batch_norm import LevelBatchNorm2d

SIZE = (50, 50)


@pytest.fixture(autouse=True, params=[False, True], ids=["one by one", "together"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule holds on a CPU, image by image, and as a GPU does it, all at once."""
    monkeypatch.setattr(dense_detector, "pays_together", lambda device: request.param)


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    return tiny_model(META_ARCHITECTURE="RetinaNet", RETINANET__SCORE_THRESH_TEST=0.3)


def detect(model: RetinaNet, *levels: list[tuple[list[float], list[float]]]):
    """Detections from anchors that are boxes already: per level (box, scores of the classes)."""
    anchors = [Boxes(torch.tensor([box for box, _ in level])) for level in levels]
    scores = [torch.tensor([s for _, s in level])[None] for level in levels]
    deltas = [torch.zeros(1, len(level), 4) for level in levels]
    return model.detections(anchors, scores, deltas, [SIZE])[0]


def test_boxes_are_not_clipped_before_suppression_so_both_stay(model: RetinaNet) -> None:
    # In the image both are the same; outside of it the first one is three times as large.
    found = detect(
        model,
        [([-100.0, 0, 50, 50], [0.9, 0, 0]), ([0.0, 0, 50, 50], [0.8, 0, 0])],
    )
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    assert found.pred_boxes.tensor[0].tolist() == [-100, 0, 50, 50]


def test_boxes_are_not_clipped_before_suppression_so_one_goes(model: RetinaNet) -> None:
    # In the image they overlap by 0.4, with what lies outside by 0.8.
    found = detect(
        model,
        [([-100.0, 0, 20, 50], [0.9, 0, 0]), ([-100.0, 0, 50, 50], [0.8, 0, 0])],
    )
    assert found.scores.tolist() == pytest.approx([0.9])


def test_a_detection_scores_strictly_more_than_the_threshold(model: RetinaNet) -> None:
    found = detect(model, [([0.0, 0, 9, 9], [0.3, 0, 0]), ([20.0, 20, 29, 29], [0, 0.3001, 0])])
    assert found.pred_classes.tolist() == [1]


def test_classes_do_not_suppress_each_other(model: RetinaNet) -> None:
    found = detect(model, [([0.0, 0, 9, 9], [0.9, 0.8, 0.1])])
    assert found.pred_classes.tolist() == [0, 1]


def test_the_best_of_each_level_enter_suppression(
    model: RetinaNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "test_topk_candidates", 2)
    fine = [([10.0 * i, 0, 10 * i + 9, 9], [0.9 - 0.1 * i, 0, 0]) for i in range(4)]
    coarse = [([0.0, 20, 40, 45], [0.35, 0.4, 0.31])]
    found = detect(model, fine, coarse)
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.4, 0.35])


def test_suppression_comes_before_the_best_are_counted(
    model: RetinaNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "max_detections_per_image", 2)
    same = [([0.0, 0, 9, 9], [0.9 - 0.1 * i, 0, 0]) for i in range(3)]
    found = detect(model, [*same, ([20.0, 20, 40, 40], [0.4, 0, 0])])
    assert found.scores.tolist() == pytest.approx([0.9, 0.4])


def test_nothing_above_the_threshold_is_no_error(model: RetinaNet) -> None:
    assert len(detect(model, [([0.0, 0, 9, 9], [0.1, 0.1, 0.1])])) == 0


class OneHotHead(nn.Module):
    """Class 2 of 3 at anchor 1 of 3, in the cell at row 2, column 3 of the first level."""

    def forward(self, features):
        logits = [torch.full((len(f), 9, *f.shape[-2:]), -9.0) for f in features]
        deltas = [torch.zeros(len(f), 12, *f.shape[-2:]) for f in features]
        logits[0][0, 1 * 3 + 2, 2, 3] = 9.0
        deltas[0][0, 1 * 4 + 0, 2, 3] = 0.5
        return logits, deltas


def test_predictions_belong_to_the_anchor_and_class_of_their_place() -> None:
    model = tiny_model(META_ARCHITECTURE="RetinaNet")
    model.head = OneHotHead()
    (answer,) = model([{"image": tiny_image()}])
    found = answer["instances"]
    assert found.pred_classes.tolist() == [2]
    # A square of 8 around (3 * 4, 2 * 4), moved by half of its width.
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor([[12.0, 4.0, 20.0, 12.0]]))


def test_answers_have_the_size_that_is_asked_for(model: RetinaNet) -> None:
    image = tiny_image()
    plain, scaled = model([{"image": image}, {"image": image, "height": 48, "width": 256}])
    plain, scaled = plain["instances"], scaled["instances"]
    assert len(plain) > 0
    assert (plain.image_size, scaled.image_size) == ((96, 128), (48, 256))
    factors = torch.tensor([2.0, 0.5, 2.0, 0.5])
    torch.testing.assert_close(scaled.pred_boxes.tensor, plain.pred_boxes.tensor * factors)
    assert plain.pred_boxes.tensor.min() >= 0  # clipped after all
    assert plain.pred_boxes.tensor[:, 2].max() <= 128


def test_predict_equals_the_call(model: RetinaNet) -> None:
    inputs = [{"image": tiny_image()}]
    predicted, called = model.predict(inputs)[0]["instances"], model(inputs)[0]["instances"]
    assert torch.equal(predicted.scores, called.scores)
    assert torch.equal(predicted.pred_boxes.tensor, called.pred_boxes.tensor)


def head(norm: str = "") -> RetinaNetHead:
    shapes = [ShapeSpec(channels=32, stride=8), ShapeSpec(channels=32, stride=16)]
    return RetinaNetHead(
        input_shape=shapes, num_classes=3, num_anchors=2, conv_dims=[32, 32], norm=norm
    )


def test_towers_have_the_names_of_checkpoints() -> None:
    weights = {name for name in head().state_dict() if name.endswith("weight")}
    assert weights == {
        "cls_subnet.0.weight",
        "cls_subnet.2.weight",
        "bbox_subnet.0.weight",
        "bbox_subnet.2.weight",
        "cls_score.weight",
        "bbox_pred.weight",
    }


def test_a_norm_stands_behind_its_convolution_which_keeps_the_bias() -> None:
    names = set(head("GN").state_dict())
    assert {"cls_subnet.0.bias", "cls_subnet.1.weight", "cls_subnet.3.weight"} < names


def test_a_batch_norm_keeps_statistics_for_each_level() -> None:
    ours = head("BN").eval()
    assert isinstance(ours.bbox_subnet[1], LevelBatchNorm2d)
    assert {"cls_subnet.1.weight", "cls_subnet.1.1.running_mean"} < set(ours.state_dict())
    same = torch.randn(1, 32, 4, 4)
    ours.cls_subnet[1][1].running_mean += 1
    logits, deltas = ours([same, same])
    assert not torch.allclose(logits[0], logits[1])
    torch.testing.assert_close(deltas[0], deltas[1])


def test_scores_begin_at_the_prior_probability() -> None:
    ours = head()
    torch.testing.assert_close(ours.cls_score.bias.sigmoid(), torch.full((6,), 0.01))


def test_one_head_serves_all_levels() -> None:
    logits, deltas = head()([torch.zeros(2, 32, 4, 6), torch.zeros(2, 32, 2, 3)])
    assert [tuple(x.shape) for x in logits] == [(2, 6, 4, 6), (2, 6, 2, 3)]
    assert [tuple(x.shape) for x in deltas] == [(2, 8, 4, 6), (2, 8, 2, 3)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"RETINANET__IN_FEATURES": ["p3", "p9"]}, "names p9, which the backbone does not"),
        ({"ANCHOR_GENERATOR__SIZES": [[8], [16], [32], [64], [1, 2]]}, "equally many anchors"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(overrides: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(tiny_config(META_ARCHITECTURE="RetinaNet", **overrides))
