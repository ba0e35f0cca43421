"""Our answers against Detectron2's own, architecture by architecture."""

import golden
import pytest
import torch
from golden import GoldenRun
from torch import Tensor

from models.structures import Boxes, pairwise_iou

CASES = sorted(path.parent.name for path in golden.GOLDEN.glob("*/expected.json"))
IMAGES = (0, 1)


@pytest.fixture(scope="module", params=CASES)
def run(request: pytest.FixtureRequest) -> GoldenRun:
    """Detectron2's answer and ours for one folder; each model runs once."""
    return golden.run_case(request.param)


def sampled(feature: Tensor, expected: dict) -> Tensor:
    return feature.flatten()[expected["index"]]


def test_there_are_golden_answers() -> None:
    assert len(CASES) >= 8


def test_parameter_names_and_shapes_are_equal(run: GoldenRun) -> None:
    assert run.parameters == run.expected["parameters"]


def test_features_are_within_a_thousandth_of_their_deviation(run: GoldenRun) -> None:
    assert list(run.features) == list(run.expected["features"])
    for name, expected in run.expected["features"].items():
        feature, tolerance = run.features[name], 1e-3 * expected["std"]
        assert list(feature.shape) == expected["shape"]
        worst = (sampled(feature, expected) - torch.tensor(expected["value"])).abs().max()
        assert worst <= tolerance, name
        assert abs(float(feature.mean()) - expected["mean"]) <= tolerance, name


@pytest.mark.parametrize("image", IMAGES)
def test_proposals_are_the_same(run: GoldenRun, image: int) -> None:
    expected = run.expected["outputs"][image]["rpn"]
    assert len(run.proposals[image]) == expected["count"]
    best = pairwise_iou(
        Boxes(torch.tensor(expected["proposal_boxes"])), run.proposals[image].proposal_boxes
    ).amax(dim=1)
    assert best.min() >= 0.99


@pytest.mark.parametrize("image", IMAGES)
def test_clear_instances_have_a_partner(run: GoldenRun, image: int) -> None:
    expected = run.expected["outputs"][image]["instances"]
    differences = golden.compare_instances(expected, run.instances[image])
    assert list(run.instances[image].image_size) == expected["image_size"]
    assert differences.clear > 0
    assert differences.matched >= 0.99 * differences.clear, differences.unmatched
