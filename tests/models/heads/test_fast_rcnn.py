"""The output layers: what they predict, and what a config sets."""

import pytest
import torch
from torch import Tensor

from models import Box2BoxTransform, Boxes, FastRCNNOutputLayers, Instances
from models.config import default_config
from models.heads import detections
from models.layers import ShapeSpec

SIZE = (40, 60)


@pytest.fixture(autouse=True, params=[False, True], ids=["one by one", "together"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule holds on a CPU, image by image, and as a GPU does it, all at once."""
    monkeypatch.setattr(detections, "pays_together", lambda device: request.param)


def apart(count: int, classes: int = 1) -> Tensor:
    """(count, classes * 4) boxes that do not meet."""
    x = torch.arange(count) * 5.0
    boxes = torch.stack((x, torch.zeros(count), x + 4, torch.full((count,), 4.0)), dim=1)
    return boxes.repeat(1, classes)


def layers(**kwargs) -> FastRCNNOutputLayers:
    torch.manual_seed(0)
    transform = Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))
    arguments = {"box2box_transform": transform, "num_classes": 3}
    return FastRCNNOutputLayers(ShapeSpec(channels=8), **(arguments | kwargs))


def proposals(*counts: int) -> list[Instances]:
    return [Instances(SIZE, proposal_boxes=Boxes(apart(count))) for count in counts]


@pytest.mark.parametrize(("agnostic", "columns"), [(False, 12), (True, 4)])
def test_the_background_is_one_more_score_and_has_no_box(agnostic: bool, columns: int) -> None:
    predictor = layers(cls_agnostic_bbox_reg=agnostic)
    logits, deltas = predictor(torch.zeros(5, 8))
    assert (logits.shape, deltas.shape) == ((5, 4), (5, columns))
    assert set(predictor.state_dict()) == {
        "cls_score.weight",
        "cls_score.bias",
        "bbox_pred.weight",
        "bbox_pred.bias",
    }


def test_features_with_height_and_width_are_flattened() -> None:
    predictor = FastRCNNOutputLayers(
        ShapeSpec(channels=2, height=3, width=4),
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        num_classes=3,
    )
    assert predictor(torch.zeros(5, 2, 3, 4))[0].shape == (5, 4)


def test_probabilities_are_a_softmax_over_classes_and_background() -> None:
    logits = torch.randn(5, 4)
    probs = layers().predict_probs((logits, torch.zeros(5, 12)), proposals(2, 3))
    assert [len(p) for p in probs] == [2, 3]
    torch.testing.assert_close(torch.cat(probs), logits.softmax(dim=1))


def test_sigmoid_probabilities_do_not_compete() -> None:
    logits = torch.randn(5, 4)
    predictor = layers(use_sigmoid_ce=True)
    probs = predictor.predict_probs((logits, torch.zeros(5, 12)), proposals(5))
    torch.testing.assert_close(probs[0], logits.sigmoid())


def test_boxes_are_deltas_applied_to_the_proposals_of_their_image() -> None:
    predictor = layers()
    boxes = predictor.predict_boxes((torch.zeros(3, 4), torch.zeros(3, 12)), proposals(1, 2))
    torch.testing.assert_close(boxes[0], apart(1, classes=3))
    torch.testing.assert_close(boxes[1], apart(2, classes=3))


def test_inference_uses_its_thresholds() -> None:
    predictor = layers(test_score_thresh=0.6, test_topk_per_image=1)
    logits = torch.zeros(3, 4)
    logits[1, 2], logits[2, 0] = 3.0, 4.0
    (instances,), (index,) = predictor.inference((logits, torch.zeros(3, 12)), proposals(3))
    assert instances.pred_classes.tolist() == [0]
    assert index.tolist() == [2]


@pytest.mark.parametrize("counts", [(0, 2), (0,), ()])
def test_images_without_proposals_are_no_error(counts: tuple[int, ...]) -> None:
    predictor = layers(test_score_thresh=0.1)
    instances, _ = predictor.inference(predictor(torch.zeros(sum(counts), 8)), proposals(*counts))
    assert [len(x) > 0 for x in instances] == [count > 0 for count in counts]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (2.0, {"loss_cls": 2.0, "loss_box_reg": 2.0}),
        ({"loss_box_reg": 3.0}, {"loss_box_reg": 3.0}),
    ],
)
def test_a_loss_weight_is_one_factor_or_several(given, kept: dict[str, float]) -> None:
    assert layers(loss_weight=given).loss_weight == kept


def test_a_config_sets_every_threshold() -> None:
    cfg = default_config()
    for key, value in {
        "MODEL.ROI_HEADS.NUM_CLASSES": 7,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.3,
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.4,
        "TEST.DETECTIONS_PER_IMAGE": 12,
        "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True,
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
        "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": (1.0, 2.0, 3.0, 4.0),
    }.items():
        cfg = cfg.override(key, value)
    predictor = FastRCNNOutputLayers(cfg, ShapeSpec(channels=8))
    assert predictor.num_classes == 7
    assert predictor.test_score_thresh == 0.3
    assert predictor.test_nms_thresh == 0.4
    assert predictor.test_topk_per_image == 12
    assert predictor.use_sigmoid_ce is True
    assert predictor.bbox_pred.out_features == 4
    assert predictor.box2box_transform.weights == (1.0, 2.0, 3.0, 4.0)
