"""The figures of a shadow: added up right, in bounded memory, and counted in the metrics too."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.repository.shadow import figures as shadow_figures
from service.repository.shadow.comparison import ImageDifference
from service.repository.shadow.figures import KEPT_IMAGES, ShadowFigures
from service.shadow_metrics import ShadowMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def figures(registry: CollectorRegistry) -> ShadowFigures:
    return ShadowFigures(ShadowMetrics(registry).begin("shapes", "2"))


def add(figures: ShadowFigures, name: str = "a.png", **difference: Any) -> None:
    figures.add(
        ImageDifference(**difference), name=name, request_id="r1", current_s=0.5, candidate_s=0.25
    )


def test_nothing_seen_has_no_means(figures: ShadowFigures) -> None:
    report = figures.to_dict()
    assert report["images"] == {"offered": 0, "compared": 0, "dropped": 0, "failed": 0}
    assert report["instances"]["matched_share"] is None
    assert report["score_shift"] == {"mean": None, "p50": None, "p95": None, "max": None}
    assert report["mean_iou"] is None
    assert report["inference_s"] == {"current": None, "candidate": None}


def test_images_are_counted_by_what_became_of_them(figures: ShadowFigures) -> None:
    for _ in range(4):
        figures.offer()
    figures.drop()
    assert figures.fail("RuntimeError")
    assert not figures.fail("OutOfMemoryError")
    add(figures)
    report = figures.to_dict()
    assert report["images"] == {"offered": 4, "compared": 1, "dropped": 1, "failed": 2}
    assert report["last_error"] == "OutOfMemoryError"
    assert report["inference_s"] == {"current": 0.5, "candidate": 0.25}


def test_instances_are_added_up_over_images(figures: ShadowFigures) -> None:
    add(figures, score_shifts=[0.1, -0.2], ious=[1.0, 0.5], only_current=["disc"])
    add(figures, class_changes=[("disc", "star")], only_candidate=["star", "disc", "star"])
    report = figures.to_dict()
    assert report["instances"] == {
        "matched": 2, "class_changed": 1, "only_current": 1, "only_candidate": 3, "matched_share": 0.5,
    }  # fmt: skip
    assert report["mean_iou"] == 0.75
    assert report["only_current"] == [{"class_name": "disc", "count": 1}]
    assert report["only_candidate"] == [
        {"class_name": "star", "count": 2},
        {"class_name": "disc", "count": 1},
    ]


def test_the_mean_shift_has_a_sign_and_the_percentiles_have_none(figures: ShadowFigures) -> None:
    shifts = [0.01] * 90 + [-0.3] * 9 + [-0.75]
    add(figures, score_shifts=shifts, ious=[1.0] * 100)
    shift = figures.to_dict()["score_shift"]
    assert shift == {"mean": -0.0255, "p50": 0.01, "p95": 0.3, "max": 0.75}


def test_class_changes_are_a_table_with_the_most_frequent_first(figures: ShadowFigures) -> None:
    add(figures, class_changes=[("a", "b"), ("b", "a"), ("b", "a")])
    assert figures.to_dict()["class_changes"] == [
        {"from": "b", "to": "a", "count": 2},
        {"from": "a", "to": "b", "count": 1},
    ]


def test_the_table_of_class_changes_is_bounded_and_loses_none(
    figures: ShadowFigures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_figures, "MOST_CHANGES", 3)
    monkeypatch.setattr(shadow_figures, "SHOWN_CHANGES", 2)
    add(figures, class_changes=[("a", str(i)) for i in range(5)] + [("a", "0"), ("a", "1")])
    report = figures.to_dict()
    assert [row["count"] for row in report["class_changes"]] == [2, 2]
    assert report["other_class_changes"] == 3


def test_the_most_different_images_are_kept_and_no_others(figures: ShadowFigures) -> None:
    add(figures, "same.png", score_shifts=[0.0], ious=[1.0])
    for number in range(20):
        add(figures, f"{number}.png", only_current=["disc"] * (number % 15))
    add(figures, "shift.png", only_current=["disc"] * 14, score_shifts=[-0.5], ious=[0.9])
    kept = figures.to_dict()["most_different"]
    assert len(kept) == KEPT_IMAGES
    assert kept[0] == {
        "request_id": "r1", "image": "shift.png", "matched": 1, "class_changed": 0,
        "only_current": 14, "only_candidate": 0, "largest_score_shift": 0.5,
    }  # fmt: skip
    assert kept[1]["image"] == "14.png"
    assert [one["only_current"] for one in kept] == [14, *range(14, 5, -1)]


def test_an_image_on_which_only_scores_differ_is_noted(figures: ShadowFigures) -> None:
    add(figures, score_shifts=[0.125], ious=[1.0])
    [one] = figures.to_dict()["most_different"]
    assert one["largest_score_shift"] == 0.125


def test_the_metrics_count_the_same(figures: ShadowFigures, registry: CollectorRegistry) -> None:
    figures.drop()
    figures.fail("RuntimeError")
    add(figures, score_shifts=[-0.25], ious=[0.75], only_current=["disc", "star"])

    def value(name: str, **labels: str) -> float | None:
        key = {"model": "shapes", "candidate": "2"} | labels
        return registry.get_sample_value(f"detserve_shadow_{name}", key)

    for outcome in ("compared", "dropped", "error"):
        assert value("images_total", outcome=outcome) == 1
    assert value("instances_total", kind="matched") == 1
    assert value("instances_total", kind="only_current") == 2
    assert value("instances_total", kind="only_candidate") == 0
    assert value("instances_total", kind="class_changed") == 0
    assert value("score_shift_sum") == 0.25
    assert value("iou_sum") == 0.75
