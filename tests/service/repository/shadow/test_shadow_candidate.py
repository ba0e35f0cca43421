"""Which version can be in the shadow of which."""

from typing import Any

import pytest
from fake_detector import FakeDetector

from service.errors import Unprocessable
from service.repository.shadow.candidate import check_comparable
from service.repository.version import ModelVersion


def version(label: str = "2", **described: Any) -> ModelVersion:
    return ModelVersion("shapes", label, FakeDetector(**described))


def refusal(current: ModelVersion, candidate: ModelVersion, share: float = 0.5) -> Unprocessable:
    with pytest.raises(Unprocessable) as caught:
        check_comparable(current, candidate, share)
    return caught.value


@pytest.mark.parametrize("share", [1e-6, 0.1, 1.0])
def test_a_share_is_above_0_and_at_most_1(share: float) -> None:
    check_comparable(version("1"), version(), share)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan"), float("inf")])
def test_any_other_share_is_refused(share: float) -> None:
    assert refusal(version("1"), version(), share).code == "invalid_option"


def test_a_version_is_not_in_its_own_shadow() -> None:
    current = version("1")
    assert refusal(current, current).code == "shadow_of_itself"


def test_tasks_that_both_find_boxes_can_be_compared() -> None:
    check_comparable(
        version("1"), version(task="object_detection", class_names=("car", "disc")), 0.5
    )


def test_upright_and_rotated_boxes_cannot() -> None:
    error = refusal(version("1"), version(box_mode="XYWHA_ABS"))
    assert error.code == "tasks_differ"
    assert "XYWHA_ABS boxes instead of XYXY_ABS boxes" in error.message


def test_a_candidate_that_needs_proposals_gets_none() -> None:
    error = refusal(version("1"), version(takes_proposals=True))
    assert error.code == "tasks_differ"
    assert "out of proposals" in error.message


@pytest.mark.parametrize("which", ["current", "candidate"])
def test_what_finds_no_instances_cannot_be_compared(which: str) -> None:
    semantic, other = version("1", outputs=("sem_seg",)), version()
    pair = (semantic, other) if which == "current" else (other, semantic)
    error = refusal(*pair)
    assert error.code == "shadow_not_supported"
    assert error.details == {"version": "1", "outputs": ["sem_seg"]}
