"""The options of a prediction: what is taken from query, form or JSON, and what is refused."""

from typing import Any

import pytest

from service.errors import Unprocessable
from service.inference.detector import Views
from service.schemas.options import MAX_CLASSES, MAX_TTA_SIZE, MIN_TTA_SIZE, PredictOptions

OWN = Views((400, 500), 1333, flip=True)


def refusal(**values: Any) -> Unprocessable:
    with pytest.raises(Unprocessable) as caught:
        PredictOptions.parse(values)
    return caught.value


def test_without_options_all_is_the_models_own() -> None:
    options = PredictOptions.parse({})
    assert options.model_dump() == {
        "model": None, "version": None, "score_threshold": None, "class_thresholds": None,
        "nms_threshold": None, "max_detections": None, "classes": None,
        "masks": "rle", "boxes": "xyxy", "include": None, "format": None, "segmentation": "png",
        "tta": "none", "tta_flip": None, "proposals": None, "region": None, "tiles": "none",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "value"), [("0.5", 0.5), (0.5, 0.5), ("0", 0.0), (1, 1.0), ("1e-1", 0.1)]
)
def test_a_threshold_is_a_number_or_its_text(given: object, value: float) -> None:
    assert PredictOptions.parse({"score_threshold": given}).score_threshold == value


@pytest.mark.parametrize("given", ["3", 3])
def test_a_cap_is_a_whole_number_or_its_text(given: object) -> None:
    assert PredictOptions.parse({"max_detections": given}).max_detections == 3


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("disc", ["disc"]),
        ("disc,star", ["disc,star"]),  # split by the model, whose names may hold commas
        (2, [2]),  # a number is an id, a text may be one
        (["disc", 2, "2"], ["disc", 2, "2"]),
        ([], []),
        (None, None),
    ],
)
def test_classes_are_one_or_several_names_or_ids(
    given: object, value: list[str | int] | None
) -> None:
    assert PredictOptions.parse({"classes": given}).classes == value


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("score_threshold", "high"),
        ("score_threshold", ""),
        ("score_threshold", -0.1),
        ("score_threshold", 1.1),
        ("score_threshold", "nan"),
        ("score_threshold", "inf"),
        ("score_threshold", ["0.5", "0.6"]),
        ("max_detections", 0),
        ("max_detections", -1),
        ("max_detections", 1.5),
        ("max_detections", "many"),
        ("max_detections", 2**31),
        ("score_threshold", True),
        ("masks", "contour"),
        ("masks", ["rle", "none"]),
        ("segmentation", "jpeg"),
        ("segmentation", ""),
        ("tta", "all"),
        ("tta", ""),
        ("tta", "-400"),
        ("tta", "400.5"),
        ("tta", "100000"),
        ("tta", ",".join(["400"] * 17)),
        ("tta", "\u0664\u0660\u0660"),
        ("tta", "full\n"),
        ("tta_flip", "perhaps"),
        ("proposals", "[[[1, 2, 3, 4]]"),
        ("proposals", "boxes"),
        ("proposals", {"boxes": []}),
        ("proposals", [[1, 2, 3, 4]]),
        ("proposals", [[[1, 2, 3]]]),
        ("proposals", [[[1, 2, 3, 4, 5]]]),
        ("proposals", [[["a", 2, 3, 4]]]),
        ("proposals", [[[3, 2, 3, 4]]]),
        ("proposals", [[[1, 4, 3, 2]]]),
        ("proposals", [[[1, 2, float("nan"), 4]]]),
        ("proposals", [[[1, 2, float("inf"), 4]]]),
        ("proposals", "[[[1, 2, 1e999, 4]]]"),
        ("classes", True),
        ("classes", [1.5]),
        ("classes", [{"id": 1}]),
        ("classes", ["x" * 65_537]),
        ("classes", ["x"] * (MAX_CLASSES + 1)),
        ("model", "m" * 65),
        ("model", 3),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_option(option: str, value: object) -> None:
    error = refusal(**{option: value})
    assert (error.status, error.code) == (422, "invalid_option")
    assert error.details == {"option": option}
    assert error.message.startswith(f"Option {option} cannot be ")
    assert len(error.message) < 300


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    error = refusal(threshold=0.5)
    assert error.code == "unknown_option"
    assert error.details["option"] == "threshold"
    assert error.details["known"] == list(PredictOptions.model_fields)


def test_a_long_unknown_option_is_not_echoed_in_full() -> None:
    assert len(refusal(**{"x" * 10_000: 1}).message) < 300


# --- test-time augmentation -------------------------------------------------------------------------


def views(own: Views | None = OWN, **options: Any) -> Views | None:
    return PredictOptions.parse(options).views(own, min_size=800, max_size=1000)


def unable(own: Views | None = OWN, **options: Any) -> Unprocessable:
    with pytest.raises(Unprocessable) as caught:
        views(own, **options)
    return caught.value


@pytest.mark.parametrize("options", [{}, {"tta": "none"}])
def test_without_tta_there_are_no_views(options: dict[str, Any]) -> None:
    assert views(**options) is None
    assert views(None, **options) is None


def test_flip_is_the_models_own_size_and_its_mirror_image() -> None:
    assert views(tta="flip") == Views((800,), 1000, flip=True)


def test_full_is_what_the_config_says() -> None:
    assert views(tta="full") == OWN


@pytest.mark.parametrize(
    ("given", "own_flip", "flip"),
    [(None, True, True), (None, False, False), ("false", True, False), (True, False, True)],
)
def test_sizes_are_mirrored_as_the_config_or_the_request_says(
    given: Any, own_flip: bool, flip: bool
) -> None:
    options = {"tta": "640,32,640"} | ({} if given is None else {"tta_flip": given})
    own = Views((400,), 1333, own_flip)
    assert views(own, **options) == Views((640, 32, 640), 1333, flip)


@pytest.mark.parametrize("size", [MIN_TTA_SIZE, MAX_TTA_SIZE])
def test_sizes_within_the_bounds_are_taken(size: int) -> None:
    found = views(tta=str(size))
    assert found is not None
    assert found.sizes == (size,)


@pytest.mark.parametrize("size", [0, MIN_TTA_SIZE - 1, MAX_TTA_SIZE + 1, 99_999])
def test_a_size_out_of_bounds_is_refused_with_the_bounds(size: int) -> None:
    error = unable(tta=f"400,{size}")
    assert (error.status, error.code) == (422, "invalid_option")
    assert f"the size {size}" in error.message
    assert f"{MIN_TTA_SIZE} to {MAX_TTA_SIZE} pixels" in error.message


@pytest.mark.parametrize("tta", ["flip", "full", "400"])
def test_a_model_without_tta_says_so(tta: str) -> None:
    assert unable(None, tta=tta).code == "tta_not_supported"


@pytest.mark.parametrize(("flip", "count"), [(False, 3), (True, 6)])
def test_the_number_of_views(flip: bool, count: int) -> None:
    assert Views((1, 2, 3), 10, flip).count == count


# --- proposals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        [[[1, 2, 3, 4]], []],
        "[[[1, 2, 3, 4]], []]",
        [[["1", "2", "3", "4"]], []],
    ],
)
def test_proposals_are_lists_of_boxes_or_their_json(given: object) -> None:
    assert PredictOptions.parse({"proposals": given}).proposals == [[[1.0, 2.0, 3.0, 4.0]], []]


def test_a_bad_box_is_refused_with_what_a_box_is() -> None:
    error = refusal(proposals=[[[5, 5, 1, 1]]])
    assert "[x1, y1, x2, y2] with x1 < x2 and y1 < y2" in error.message


def test_proposals_may_leave_the_picture() -> None:
    assert PredictOptions.parse({"proposals": [[[-5, -5, 9e5, 9e5]]]}).proposals is not None
