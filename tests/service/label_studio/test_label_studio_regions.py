"""Instances as regions of Label Studio."""

import math
from typing import Any

import numpy as np
import pytest
from fake_detector import FakeDetector

from models.structures.rle import encode_rle_crop
from service.label_studio.config import Control, Kind, Label
from service.label_studio.regions import KEYPOINT_SIZE, Regions, encode_regions

WIDTH, HEIGHT = 200, 100
MODEL = FakeDetector().description
POINTS = FakeDetector(
    task="keypoint_detection", class_names=("person",), keypoint_names=("nose", "left_eye")
).description


def control(kind: Kind, *labels: str, **options: Any) -> Control:
    drawn = tuple(Label(name.capitalize(), (name,)) for name in labels or ("disc", "square"))
    return Control(kind, kind[:3], "image", "image", drawn, **options)


def instances(
    boxes: list[list[float]], classes: list[int] | None = None, scores: list[float] | None = None
) -> dict[str, Any]:
    """As POST /predict has them, before they are JSON; each mask is its box."""
    masks = []
    for box in boxes:
        x1, y1, x2, y2 = (int(value) for value in box[:4])
        bits = np.ones((max(0, y2 - y1), max(0, x2 - x1)), dtype=bool)
        masks.append(encode_rle_crop(bits, left=x1, top=y1, height=HEIGHT, width=WIDTH))
    number = len(boxes)
    return {
        "pred_boxes": np.array(boxes, dtype=np.float32).reshape(number, 4),
        "pred_classes": np.array(classes or [0] * number),
        "scores": np.array(scores or [0.75] * number, dtype=np.float32),
        "masks": masks,
    }


def encode(given: dict[str, Any], *controls: Control, model: Any = MODEL) -> Regions:
    return encode_regions(given, controls, model, width=WIDTH, height=HEIGHT)


def test_a_rectangle_is_in_percent_of_the_picture() -> None:
    found = encode(instances([[20, 10, 60, 35]]), control("rectanglelabels"))
    [region] = found.regions
    assert region["value"] == {
        "x": 10, "y": 10, "width": 20, "height": 25, "rotation": 0, "rectanglelabels": ["Disc"],
    }  # fmt: skip
    assert region["type"] == "rectanglelabels"
    assert (region["from_name"], region["to_name"]) == ("rec", "image")
    assert (region["original_width"], region["original_height"]) == (WIDTH, HEIGHT)
    assert (region["image_rotation"], region["score"]) == (0, 0.75)


def test_a_rectangle_is_clipped_to_the_picture() -> None:
    [region] = encode(instances([[-10, -5, 500, 150]]), control("rectanglelabels")).regions
    assert [region["value"][key] for key in ("x", "y", "width", "height")] == [0, 0, 100, 100]


def test_a_box_of_a_broken_model_is_still_json_that_label_studio_takes() -> None:
    given = instances([[0, 0, 1, 1]])
    given["pred_boxes"][:] = math.nan
    [region] = encode(given, control("rectanglelabels")).regions
    assert [region["value"][key] for key in ("x", "y", "width", "height")] == [0, 0, 0, 0]


@pytest.mark.parametrize("clockwise", [True, False])
def test_a_rotated_box_turns_around_a_corner_that_is_in_the_picture(clockwise: bool) -> None:
    given = instances([[0, 0, 1, 1]])
    # 40 x 20 pixels, turned by 30 degrees clockwise on the screen; its first corner lies outside.
    along = 40 * np.array([math.cos(math.pi / 6), math.sin(math.pi / 6)])
    across = 20 * np.array([-math.sin(math.pi / 6), math.cos(math.pi / 6)])
    first = np.array([30.0, -1.0])
    corners = [first, first + along, first + along + across, first + across]
    given["polygons"] = np.array([corners if clockwise else corners[::-1]])
    [region] = encode(given, control("rectanglelabels")).regions
    value = region["value"]
    assert 0 <= value["x"] <= 100
    assert 0 <= value["y"] <= 100
    # The rectangle that Label Studio draws: turned clockwise around (x, y).
    angle = math.radians(value["rotation"])
    x, y = value["x"] / 100 * WIDTH, value["y"] / 100 * HEIGHT
    w, h = value["width"] / 100 * WIDTH, value["height"] / 100 * HEIGHT
    right, down = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
    drawn = [
        (x + a * w * right[0] + b * h * down[0], y + a * w * right[1] + b * h * down[1])
        for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))
    ]
    assert np.allclose(sorted(drawn), sorted(map(tuple, corners)), atol=1e-3)


def test_a_rotated_box_wholly_outside_keeps_to_the_bounds() -> None:
    given = instances([[0, 0, 1, 1]])
    given["polygons"] = np.array([[[-50, -50], [-10, -50], [-10, -20], [-50, -20]]], dtype=float)
    [region] = encode(given, control("rectanglelabels")).regions
    assert (region["value"]["x"], region["value"]["y"]) == (0, 0)
    assert region["value"]["rotation"] < 360


def test_a_polygon_is_drawn_around_each_part_of_a_mask() -> None:
    bits = np.zeros((20, 90), dtype=bool)
    bits[:, :40] = bits[:, 50:] = True
    given = instances([[10, 10, 100, 30]])
    given["masks"] = [encode_rle_crop(bits, left=10, top=10, height=HEIGHT, width=WIDTH)]
    found = encode(given, control("polygonlabels"))
    assert len(found.regions) == 2
    assert found.scores == [0.75]
    for region in found.regions:
        assert region["value"]["closed"] is True
        assert len(region["value"]["points"]) >= 4
        assert all(5 <= x <= 50 and 10 <= y <= 30 for x, y in region["value"]["points"])


def test_a_polygon_of_a_rotated_box_has_its_corners() -> None:
    given = instances([[0, 0, 1, 1]])
    del given["masks"]
    given["polygons"] = np.array([[[20, 10], [60, 10], [60, 300], [20, 30]]], dtype=float)
    [region] = encode(given, control("polygonlabels")).regions
    assert region["value"]["points"] == [[10, 10], [30, 10], [30, 100], [10, 30]]


def test_a_model_without_masks_draws_none() -> None:
    given = instances([[20, 10, 60, 35]])
    del given["masks"]
    found = encode(given, control("polygonlabels"), control("brushlabels"))
    assert (found.regions, found.scores, found.dropped, found.score) == ([], [], 0, 0)


def test_an_empty_mask_is_no_region() -> None:
    given = instances([[20, 10, 20, 10]])
    assert encode(given, control("brushlabels"), control("polygonlabels")).regions == []


def test_a_brush_has_run_lengths_of_the_whole_picture() -> None:
    [region] = encode(instances([[20, 10, 60, 35]]), control("brushlabels")).regions
    value = region["value"]
    assert value["format"] == "rle"
    assert value["brushlabels"] == ["Disc"]
    assert int.from_bytes(bytes(value["rle"][:4]), "big") == WIDTH * HEIGHT * 4
    assert all(isinstance(byte, int) and 0 <= byte <= 255 for byte in value["rle"])


def test_ids_of_regions_differ() -> None:
    found = encode(
        instances([[20, 10, 60, 35]] * 3), control("rectanglelabels"), control("brushlabels")
    )
    assert len({region["id"] for region in found.regions}) == 6


def test_a_class_without_a_label_is_dropped_and_counted() -> None:
    given = instances([[20, 10, 60, 35]] * 4, classes=[0, 2, 3, 1])
    found = encode(given, control("rectanglelabels"), control("brushlabels", "disc"))
    assert [region["value"].get("rectanglelabels") for region in found.regions] == [
        ["Disc"], None, ["Square"],
    ]  # fmt: skip
    assert found.dropped == 2


def test_each_control_has_its_own_threshold() -> None:
    given = instances([[20, 10, 60, 35]] * 3, scores=[0.9, 0.5, 0.1])
    found = encode(
        given,
        control("rectanglelabels", score_threshold=0.3),
        control("brushlabels", score_threshold=0.8),
    )
    kinds = [region["type"] for region in found.regions]
    assert kinds == ["rectanglelabels", "brushlabels", "rectanglelabels"]
    assert found.dropped == 0
    assert found.score == pytest.approx(0.7)


def keypoints(*scores: float) -> dict[str, Any]:
    given = instances([[20, 10, 60, 35]])
    del given["masks"]
    given["pred_keypoints"] = np.array([[[40, 20, scores[0]], [300, -5, scores[1]]]])
    return given


def test_keypoints_are_labelled_by_their_own_names_and_belong_to_their_rectangle() -> None:
    found = encode(
        keypoints(0.5, 0.25),
        control("keypointlabels", "nose", "left_eye"),
        control("rectanglelabels", "person"),
        model=POINTS,
    )
    box, nose, eye = found.regions
    assert box["type"] == "rectanglelabels"
    assert nose["value"] == {
        "x": 20, "y": 20, "width": KEYPOINT_SIZE, "keypointlabels": ["Nose"],
    }  # fmt: skip
    assert (nose["score"], nose["parentID"]) == (0.5, box["id"])
    assert (eye["value"]["x"], eye["value"]["y"]) == (100, 0)


def test_keypoints_below_their_threshold_or_without_a_label_are_left_out() -> None:
    points = control("keypointlabels", "nose", "left_eye", point_threshold=0.3)
    [nose] = encode(keypoints(0.5, 0.25), points, model=POINTS).regions
    assert nose["value"]["keypointlabels"] == ["Nose"]
    assert "parentID" not in nose
    [eye] = encode(
        keypoints(0.5, 0.25), control("keypointlabels", "left_eye"), model=POINTS
    ).regions
    assert eye["value"]["keypointlabels"] == ["Left_eye"]


def test_a_picture_without_instances_has_no_regions() -> None:
    found = encode(instances([]), control("rectanglelabels"), control("brushlabels"))
    assert (found.regions, found.score, found.dropped) == ([], 0, 0)
