"""Which falloffs keypoints are measured with."""

import pytest

from models.evaluation import EvaluationError
from models.evaluation.keypoint_sigmas import UNIFORM_SIGMA, checked_sigmas, sigmas_of

COCO = [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]


def test_seventeen_keypoints_are_a_persons() -> None:
    assert sigmas_of(17, None) == (None, "")


def test_what_is_given_is_taken() -> None:
    assert sigmas_of(2, checked_sigmas([0.1, 1])) == ((0.1, 1.0), "")


def test_none_given_is_the_mean_of_cocos_for_each_and_is_told() -> None:
    sigmas, note = sigmas_of(3, checked_sigmas([]))
    assert sigmas == (UNIFORM_SIGMA,) * 3
    assert pytest.approx(sum(COCO) / 17 / 1000, abs=5e-4) == UNIFORM_SIGMA
    assert "0.067" in note
    assert "The 3 keypoints" in note


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_sigma_is_above_zero(sigma: float) -> None:
    with pytest.raises(EvaluationError, match="above 0"):
        checked_sigmas([0.1, sigma])


def test_there_is_one_for_each() -> None:
    with pytest.raises(EvaluationError, match="3 keypoints, but there are 2 sigmas"):
        sigmas_of(3, (0.1, 0.1))
