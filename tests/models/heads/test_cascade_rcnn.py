"""CascadeROIHeads: scores of all stages, boxes of the last one, and what passes between them."""

import pytest
import torch
from tiny_models import tiny_config
from torch import Tensor, nn

from models import (
    Box2BoxTransform,
    Boxes,
    CascadeROIHeads,
    FastRCNNOutputLayers,
    Instances,
    Matcher,
    ROIPooler,
    ShapeSpec,
    build_roi_heads,
)
from models.errors import ConfigError

SHAPES = {"p2": ShapeSpec(channels=2, stride=4)}
FEATURES = {"p2": torch.zeros(2, 2, 20, 20)}


class FixedPredictor(FastRCNNOutputLayers):
    """Answers with given probabilities (R, K + 1) and deltas (R, 4), and keeps the proposals."""

    def __init__(self, probabilities: list[list[float]], delta: list[float]) -> None:
        super().__init__(
            ShapeSpec(channels=8),
            box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
            num_classes=2,
            cls_agnostic_bbox_reg=True,
            test_score_thresh=0.05,
        )
        self.probabilities, self.delta = torch.tensor(probabilities), torch.tensor(delta)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.probabilities.log(), self.delta.repeat(len(x), 1)

    def predict_boxes(self, predictions, proposals):
        self.seen += [p.proposal_boxes.tensor for p in proposals]
        return super().predict_boxes(predictions, proposals)


def cascade(*predictors: nn.Module) -> CascadeROIHeads:
    return CascadeROIHeads(
        num_classes=2,
        batch_size_per_image=8,
        positive_fraction=0.25,
        box_in_features=["p2"],
        box_pooler=ROIPooler(2, [0.25], 0, "ROIAlignV2"),
        box_heads=[nn.Flatten() for _ in predictors],
        box_predictors=predictors,
        proposal_matchers=[Matcher([0.5], [0, 1]) for _ in predictors],
    )


def proposals(*boxes: list[float]) -> Instances:
    return Instances((80, 80), proposal_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))


FIRST, SECOND = [0.6, 0.1, 0.3], [0.2, 0.5, 0.3]


def test_scores_are_the_mean_over_the_stages() -> None:
    heads = cascade(FixedPredictor([FIRST], [0.0] * 4), FixedPredictor([SECOND], [0.0] * 4))
    (found,) = heads.detect_boxes(FEATURES, [proposals([10.0, 10.0, 30.0, 30.0])])
    assert found.pred_classes.tolist() == [0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([0.4, 0.3]))


def test_each_stage_starts_from_the_boxes_of_the_one_before_and_the_last_are_the_answer() -> None:
    first, second = (
        FixedPredictor([FIRST], [0.5, 0.0, 0.0, 0.0]),
        FixedPredictor([SECOND], [0.0, 0.25, 0.0, 0.0]),
    )
    (found,) = cascade(first, second).detect_boxes(FEATURES, [proposals([10.0, 10.0, 30.0, 30.0])])
    assert second.seen[0].tolist() == [[20, 10, 40, 30]]
    assert found.pred_boxes.tensor[0].tolist() == [20, 15, 40, 35]


def test_boxes_are_clipped_between_the_stages() -> None:
    first, second = FixedPredictor([FIRST], [-1.0, 0, 0, 0]), FixedPredictor([SECOND], [0.0] * 4)
    cascade(first, second).detect_boxes(FEATURES, [proposals([10.0, 10.0, 30.0, 30.0])])
    assert second.seen[0].tolist() == [[0, 10, 10, 30]]


def test_boxes_that_become_empty_stay_until_the_end() -> None:
    first, second = FixedPredictor([FIRST], [-5.0, 0, 0, 0]), FixedPredictor([SECOND], [0.0] * 4)
    cascade(first, second).detect_boxes(FEATURES, [proposals([10.0, 10.0, 30.0, 30.0])])
    assert second.seen[0].tolist() == [[0, 10, 0, 30]]


def test_images_keep_their_own_regions() -> None:
    rows = [FIRST, SECOND, FIRST]
    heads = cascade(FixedPredictor(rows, [0.0] * 4), FixedPredictor(rows, [0.0] * 4))
    one, two = heads.detect_boxes(
        FEATURES,
        [
            proposals([0.0, 0.0, 9.0, 9.0]),
            proposals([20.0, 20.0, 30.0, 30.0], [50.0, 50.0, 70.0, 70.0]),
        ],
    )
    assert one.scores[0] == pytest.approx(0.6)
    assert two.pred_classes.tolist()[:2] == [0, 1]
    assert two.pred_boxes.tensor[1].tolist() == [20, 20, 30, 30]


def cascade_config(**overrides):
    return tiny_config(
        ROI_HEADS__NAME="CascadeROIHeads", ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG=True, **overrides
    )


PYRAMID = {f"p{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 7)}


def test_a_config_gives_three_numbered_stages_with_weights_of_their_own() -> None:
    heads = build_roi_heads(cascade_config(), PYRAMID)
    names = set(heads.state_dict())
    assert {f"box_head.{i}.fc1.weight" for i in range(3)} < names
    assert {f"box_predictor.{i}.bbox_pred.weight" for i in range(3)} < names
    weights = [p.box2box_transform.weights for p in heads.box_predictor]
    assert weights == [(10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15)]
    assert [m.bounds[1] for m in heads.proposal_matchers] == [0.5, 0.6, 0.7]


def test_no_proposals_are_no_error() -> None:
    heads = build_roi_heads(cascade_config(), PYRAMID).eval()
    features = {
        name: torch.zeros(1, 8, 128 // s.stride, 128 // s.stride) for name, s in PYRAMID.items()
    }
    (found,), _ = heads(None, features, [proposals()])
    assert len(found) == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": False}, "CLS_AGNOSTIC_BBOX_REG to true"),
        ({"ROI_BOX_CASCADE_HEAD__IOUS": (0.5, 0.6)}, "2 IOUS and 3 BBOX_REG_WEIGHTS"),
    ],
)
def test_a_config_that_describes_no_cascade_is_refused(overrides: dict, message: str) -> None:
    cfg = cascade_config()
    for key, value in overrides.items():
        cfg = cfg.override("MODEL." + key.replace("__", "."), value)
    with pytest.raises(ConfigError, match=message):
        build_roi_heads(cfg, PYRAMID)


def test_stages_need_one_of_each() -> None:
    one = FixedPredictor([FIRST], [0.0] * 4)
    with pytest.raises(ValueError, match="as many box heads as predictors"):
        CascadeROIHeads(
            num_classes=2,
            batch_size_per_image=8,
            positive_fraction=0.25,
            box_in_features=["p2"],
            box_pooler=ROIPooler(2, [0.25], 0, "ROIAlignV2"),
            box_heads=[nn.Flatten(), nn.Flatten()],
            box_predictors=[one],
            proposal_matchers=[Matcher([0.5], [0, 1])],
        )
