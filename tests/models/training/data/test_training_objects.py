"""Single annotations: what is kept, left out with a warning, or an error."""

import json
from typing import Any

import pytest
from training_files import TrainingFiles

from models.training.data.dataset import TrainingObject
from models.training.data.findings import Finding


def read(files: TrainingFiles, **fields: Any) -> tuple[TrainingObject | None, list[Finding]]:
    """The first object with these fields, and what was found."""
    files.first.update(fields)
    files.content["annotations"] = [files.first]
    dataset = files.read()
    found = [finding for finding in dataset.findings if finding.code != "ids-not-contiguous"]
    objects = dataset.images[0].objects
    return (objects[0] if objects else None), found


@pytest.mark.parametrize(
    ("box", "verdict"),
    [
        ([10, 10, 0, 5], "warning box-empty"),
        ([10, 10, -3, 5], "error box-invalid"),
        ([10, 10, 5], "error box-invalid"),
        ([10, 10, 5, float("nan")], "error box-invalid"),
        ([10, 10, 5, float("inf")], "error box-invalid"),
        ("10 10 5 5", "error box-invalid"),
        (None, "error box-invalid"),
        ([60, 10, 5, 5], "error box-outside"),
        ([10, -8, 5, 8], "error box-outside"),
    ],
)
def test_boxes_that_nothing_is_learned_from(files: TrainingFiles, box: Any, verdict: str) -> None:
    found, findings = read(files, bbox=box)
    assert found is None
    assert [f"{finding.severity} {finding.code}" for finding in findings] == [verdict]
    assert findings[0].examples[0].startswith("annotation 0 of one.png")
    assert findings[0].advice


def test_boxes_that_stick_out_are_kept(files: TrainingFiles) -> None:
    found, findings = read(files, bbox=[40, 10, 30, 20])
    assert found is not None
    assert found.box == (40, 10, 70, 30)
    assert [finding.code for finding in findings] == ["box-sticks-out"]
    assert read(files, bbox=[40, 10, 20.8, 20])[1] == []


def test_five_numbers_are_a_rotated_box_with_an_upright_one_around_it(files: TrainingFiles) -> None:
    found, findings = read(files, bbox=[30, 20, 20, 10, 90])
    assert findings == []
    assert found is not None
    assert found.rotated_box == (30, 20, 20, 10, 90)
    assert found.box == pytest.approx((25, 10, 35, 30))
    assert read(files, bbox=[30, 20, 0, 10, 90])[0] is None


@pytest.mark.parametrize(
    ("segmentation", "verdict"),
    [
        ([[1, 2, 3, 4]], ["warning polygon-short", "warning mask-empty"]),
        ([[1, 2, 3, 4, 5, 6, 7]], ["warning polygon-short", "warning mask-empty"]),
        ([[1, 2, 3, 4, 5, float("nan")]], ["error mask-invalid"]),
        ([1, 2, 3, 4, 5, 6], ["error mask-invalid"]),
        ("mask", ["error mask-invalid"]),
        ([[1, 2, 3, 4, 5, 6000]], ["error polygon-outside"]),
        ({"size": [60, 40], "counts": [2400]}, ["error mask-size"]),
        ({"size": [40, 60], "counts": [2399]}, ["error mask-invalid"]),
        ({"size": [40, 60], "counts": "~~"}, ["error mask-invalid"]),
        ({"size": [40, 60]}, ["error mask-invalid"]),
        ({"size": [40, 60], "counts": [2400]}, ["warning mask-empty"]),
    ],
)
def test_masks_that_nothing_is_learned_from(
    files: TrainingFiles, segmentation: Any, verdict: list[str]
) -> None:
    found, findings = read(files, segmentation=segmentation)
    assert found is None
    assert [f"{finding.severity} {finding.code}" for finding in findings] == verdict


def test_a_short_polygon_beside_a_whole_one_is_left_out(files: TrainingFiles) -> None:
    whole = [10, 10, 30, 10, 30, 30]
    found, findings = read(files, segmentation=[[1, 2], whole])
    assert found is not None
    assert found.polygons == (tuple(whole),)
    assert [finding.code for finding in findings] == ["polygon-short"]


def test_an_empty_segmentation_is_a_box_without_mask(files: TrainingFiles) -> None:
    found, findings = read(files, segmentation=[])
    assert found is not None
    assert found.polygons is found.rle is None
    assert findings == []


def test_ignored_objects_are_like_crowds(files: TrainingFiles) -> None:
    found, findings = read(files, ignore=1)
    assert found is not None
    assert found.is_crowd
    assert [finding.code for finding in findings] == ["ignored"]
    found, findings = read(files, ignore=0, iscrowd=2)
    assert found is None
    assert [finding.code for finding in findings] == ["crowd-invalid"]


def test_keypoints_become_continuous(files: TrainingFiles) -> None:
    found, findings = read(files, keypoints=[10, 12, 2, 0, 0, 0, 59, 39, 1])
    assert found is not None
    assert found.keypoints == (10.5, 12.5, 2, 0.5, 0.5, 0, 59.5, 39.5, 1)
    assert findings == []


@pytest.mark.parametrize("keypoints", [[1, 2], [1, 2, 3], ["a", 1, 2], [1, float("nan"), 2], "xyv"])
def test_keypoints_that_are_none(files: TrainingFiles, keypoints: Any) -> None:
    found, findings = read(files, keypoints=keypoints)
    assert found is None
    assert [f"{finding.severity} {finding.code}" for finding in findings] == [
        "error keypoints-invalid"
    ]


def test_visible_keypoints_outside_of_the_picture_are_a_warning(files: TrainingFiles) -> None:
    found, findings = read(files, keypoints=[90, 12, 2])
    assert found is not None
    assert [finding.code for finding in findings] == ["keypoints-outside"]
    assert read(files, keypoints=[90, 12, 0])[1] == []


def test_a_fault_that_is_there_often_is_one_finding_with_a_count(files: TrainingFiles) -> None:
    empty = {**files.first, "bbox": [1, 1, 0, 0]}
    files.content["annotations"] = [{**empty, "id": number} for number in range(9)]
    files.path.write_text(json.dumps(files.content))
    finding = files.read().findings[1]
    assert (finding.count, len(finding.examples)) == (9, 5)
    assert "(9, such as annotation 0 of one.png" in str(finding)
    assert finding.to_dict()["examples"] == list(finding.examples)
