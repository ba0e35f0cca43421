"""What the soak calls wrong: in one answer, between two versions, in the memory of a process."""

import copy
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_masks
from soaking.answers import BOX_PX, SCORE, Found, VersionAnswers, Versions, check_answer, look_alike
from soaking.memory import Reading, changes_percent, is_flat, read_memory

LABELS = ("1", "2")


# --- one answer ------------------------------------------------------------------------------------


def rle(left: int, right: int) -> dict[str, Any]:
    """A mask of 100x100 pixels whose columns ``left`` to ``right`` are set."""
    mask = np.zeros((100, 100), dtype=np.uint8, order="F")
    mask[:, left:right] = 1
    encoded = coco_masks.encode(mask)
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def instances(shift: float = 0.0) -> dict[str, Any]:
    boxes = [[10.0, 10.0, 60.0, 60.0], [20.0, 30.0, 40.0, 90.0]]
    return {
        "pred_boxes": [[side + shift for side in box] for box in boxes],
        "pred_classes": [0, 2],
        "scores": [0.9, 0.4],
        "masks": [rle(10, 60), rle(20, 40)],
    }


SHIFT = 3.0
SHA256 = {"1": "aa", "2": "bb"}


@pytest.fixture
def versions() -> Versions:
    return {
        label: VersionAnswers(
            label,
            SHA256[label],
            {
                name: Found.of(instances(shift + extra))
                for name, extra in (("a.jpg", 0.0), ("b.jpg", 10.0))
            },
        )
        for label, shift in (("1", 0.0), ("2", SHIFT))
    }


def answer(label: str, *shifts: float, sha256: str | None = None) -> dict[str, Any]:
    return {
        "model": {"version": label, "weights_sha256": sha256 or SHA256[label]},
        "predictions": [{"instances": instances(shift)} for shift in shifts],
    }


def kind(given: dict[str, Any], versions: Versions, current: str = "12") -> str | None:
    problem = check_answer(given, ["a.jpg", "b.jpg"], versions, set(current))
    return problem.kind if problem is not None else None


@pytest.mark.parametrize("label", LABELS)
def test_an_answer_that_agrees_with_its_version_is_right(versions: Versions, label: str) -> None:
    shift = SHIFT if label == "2" else 0.0
    assert kind(answer(label, shift, 10 + shift), versions) is None


def test_an_answer_of_two_versions_is_mixed(versions: Versions) -> None:
    assert kind(answer("1", 0.0, 10 + SHIFT), versions) == "mixed"
    assert kind(answer("2", 0.0, 10 + SHIFT), versions) == "mixed"


def test_an_answer_that_names_the_other_version_is_misnamed(versions: Versions) -> None:
    assert kind(answer("2", 0.0, 10.0), versions) == "misnamed"


def test_an_answer_that_names_the_other_weights_is_misnamed(versions: Versions) -> None:
    assert kind(answer("1", 0.0, 10.0, sha256="bb"), versions) == "misnamed"


def test_an_answer_of_no_version_is_different(versions: Versions) -> None:
    assert kind(answer("1", 0.0, 11.5), versions) == "different"


def test_an_answer_of_a_version_that_was_not_current_is_untimely(versions: Versions) -> None:
    assert kind(answer("1", 0.0, 10.0), versions, current="2") == "untimely"


def test_an_answer_of_a_version_that_nobody_knows_is_told(versions: Versions) -> None:
    assert kind(answer("3", 0.0, 10.0, sha256="cc"), versions) == "unknown"


@pytest.mark.parametrize(
    "predictions", [[], [{"instances": instances()}], [{"error": {}}, {"error": {}}]]
)
def test_an_answer_that_lacks_a_picture_is_incomplete(
    versions: Versions, predictions: list[dict[str, Any]]
) -> None:
    assert kind(answer("1") | {"predictions": predictions}, versions) == "incomplete"


def test_rounding_and_order_make_no_difference() -> None:
    other = instances(0.9 * BOX_PX)
    other["scores"] = [score - 0.9 * SCORE for score in other["scores"]]
    for values in other.values():
        values.reverse()
    assert Found.of(other).difference(Found.of(instances())) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["pred_boxes"][1].__setitem__(2, 40.1),
        lambda found: found["scores"].__setitem__(0, 0.902),
        lambda found: found["pred_classes"].__setitem__(0, 1),
        lambda found: found["masks"].__setitem__(0, rle(10, 59)),
        lambda found: found.pop("masks"),
        lambda found: [values.pop() for values in found.values()],
        lambda found: [values.append(values[0]) for values in found.values()],
    ],
    ids=["box", "score", "class", "mask", "no masks", "one less", "one more"],
)
def test_anything_more_is_a_difference(change: Callable[[dict[str, Any]], Any]) -> None:
    other = copy.deepcopy(instances())
    change(other)
    assert Found.of(other).difference(Found.of(instances())) is not None
    assert Found.of(instances()).difference(Found.of(other)) is not None


def test_one_instance_cannot_stand_for_two() -> None:
    twice, once = instances(), instances()
    for found in (twice, once):
        for values in found.values():
            values[1] = copy.deepcopy(values[0])
    once["scores"][1] = 0.5
    assert Found.of(twice).difference(Found.of(once)) is not None


def test_pictures_without_instances_are_alike(versions: Versions) -> None:
    nothing = Found.of({"pred_boxes": [], "pred_classes": [], "scores": [], "masks": []})
    empty = {
        label: VersionAnswers(label, one.sha256, {**one.found, "a.jpg": nothing})
        for label, one in versions.items()
    }
    assert look_alike(versions) == []
    assert look_alike(empty) == ["a.jpg"]


# --- memory ----------------------------------------------------------------------------------------


def test_memory_is_read_of_the_process_and_of_its_devices() -> None:
    metrics = (
        "# TYPE detserve_gpu_memory_bytes gauge\n"
        'detserve_gpu_memory_bytes{device="cuda:0",kind="allocated"} 1e+06\n'
        'detserve_gpu_memory_bytes{device="cuda:1",kind="allocated"} 2e+06\n'
        'detserve_gpu_memory_bytes{device="cuda:0",kind="free"} 9e+06\n'
    )
    reading = read_memory(os.getpid(), 7, metrics)
    assert 0 < reading.anonymous < reading.rss
    assert 0 < reading.pss <= reading.rss
    assert (reading.swaps, reading.device_allocated, reading.device_reserved) == (7, 3_000_000, 0)


def test_memory_is_judged_from_the_first_reading_to_the_last() -> None:
    def reading(rss: int, device: int = 0) -> Reading:
        return Reading(10, rss=rss, pss=1, anonymous=1000, device_reserved=device)

    assert changes_percent([reading(1000), reading(5000), reading(1019)])["rss"] == (
        pytest.approx(1.9)
    )
    assert is_flat(changes_percent([reading(1000), reading(1019)]))
    assert not is_flat(changes_percent([reading(1000), reading(1021)]))
    assert not is_flat(changes_percent([reading(1000), reading(979)]))
    assert not is_flat(changes_percent([reading(1000), reading(1000, device=1)]))
    assert changes_percent([reading(1000)]) == {}
