"""What a request's thresholds, NMS and caps mean for one model."""

from typing import Any

import pytest
from fake_detector import FakeDetector

from models.wanted import Wanted
from service.encoding.instances import Selection
from service.errors import Unprocessable
from service.inference.detector import ModelDescription
from service.schemas.options import PredictOptions


def description(**changes: Any) -> ModelDescription:
    """Of classes disc, square, "star, red" and "1"; its own threshold is 0.05, its cap 100."""
    return FakeDetector(
        **{"takes_overrides": True, "max_detections_limit": 300} | changes
    ).description


def wanted(model: ModelDescription | None = None, **options: Any) -> Wanted:
    return Selection.resolve(PredictOptions.parse(options), model or description()).wanted


def refusal(model: ModelDescription | None = None, **options: Any) -> Unprocessable:
    with pytest.raises(Unprocessable) as caught:
        wanted(model, **options)
    return caught.value


def test_classes_are_named_or_numbered_and_others_keep_the_common_threshold() -> None:
    found = wanted(score_threshold=0.5, class_thresholds={"star, red": 0.4, "0": 0.7})
    assert found == Wanted(
        score_threshold=0.5, class_thresholds=((0, 0.7), (2, 0.4)), max_detections=100
    )


def test_a_name_comes_before_an_id() -> None:
    assert wanted(class_thresholds="1:0.5").class_thresholds == ((3, 0.5),)


def test_without_thresholds_of_classes_there_are_none() -> None:
    assert wanted(class_thresholds={}) == wanted()


def test_a_class_is_not_held_to_less_than_the_models_own() -> None:
    error = refusal(class_thresholds={"disc": 0.5, "square": 0.04})
    assert (error.code, error.details) == (
        "score_threshold_too_low",
        {"value": 0.04, "minimum": 0.05},
    )
    assert error.message.startswith(
        "The threshold of 'square', 0.04 is below the model's own, 0.05"
    )
    assert wanted(class_thresholds={"disc": 0.05}).class_thresholds == ((0, 0.05),)


def test_an_unknown_class_is_refused() -> None:
    assert refusal(class_thresholds={"car": 0.5}).code == "unknown_class"
    assert refusal(class_thresholds={"-1": 0.5}).code == "unknown_class"
    nothing = refusal(description(class_names=()), class_thresholds={"car": 0.5})
    assert "leave class_thresholds out" in nothing.message


def test_one_class_does_not_have_two_thresholds() -> None:
    error = refusal(class_thresholds={"disc": 0.5, "0": 0.6})
    assert error.code == "invalid_option"
    assert "names the class 'disc' twice, as 'disc' and as '0'" in error.message


def test_nms_and_more_instances_are_overrides() -> None:
    found = wanted(nms_threshold=0.3, max_detections=101)
    assert (found.nms_threshold, found.detections_per_image, found.max_detections) == (
        0.3,
        101,
        101,
    )


def test_fewer_instances_are_no_override() -> None:
    assert not wanted(max_detections=100).overrides
    assert not wanted(description(max_detections=-1), max_detections=10**6).overrides


def test_the_server_has_a_bound_on_instances() -> None:
    assert wanted(max_detections=300).detections_per_image == 300
    error = refusal(max_detections=301)
    assert (error.code, error.details) == (
        "max_detections_too_high",
        {"value": 301, "maximum": 300},
    )
    assert "max_detections_limit" in error.message


def test_the_bound_takes_nothing_of_the_models_own_number() -> None:
    model = description(max_detections_limit=10)
    assert wanted(model, max_detections=100).max_detections == 100
    assert refusal(model, max_detections=101).details["maximum"] == 100


def test_with_tiles_the_model_keeps_its_own_number_of_each() -> None:
    found = wanted(max_detections=5000, nms_threshold=0.3, tiles="auto")
    assert (found.max_detections, found.detections_per_image) == (5000, None)
    assert found.nms_threshold == 0.3


def test_a_model_that_takes_no_overrides_refuses_them() -> None:
    model = description(takes_overrides=False)
    error = refusal(model, nms_threshold=0.5)
    assert (error.code, error.details) == ("override_not_supported", {"option": "nms_threshold"})
    assert "FakeRCNN" in error.message
    assert refusal(model, max_detections=101).code == "max_detections_too_high"
    assert not wanted(model, class_thresholds={"disc": 0.5}).overrides
