"""Which form an answer takes."""

from typing import Any

import pytest
from fake_detector import FakeDetector

from service.encoding.formats.negotiation import check_format, choose_format, options_for
from service.errors import NotAcceptable, Unprocessable
from service.schemas.options import FormatName, PredictOptions


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "json"),
        ("", "json"),
        ("*/*", "json"),
        ("application/*", "json"),
        ("application/json", "json"),
        ("application/x-ndjson", "ndjson"),
        ("text/csv", "csv"),
        ("TEXT/CSV", "csv"),
        ("text/*", "csv"),
        ("text/csv; charset=utf-8", "csv"),
        ("application/geo+json", "geojson"),
        ("image/*", "png"),
        ("image/webp", "webp"),
        ("image/jpeg, */*;q=0.1", "jpeg"),
        ("text/csv;q=0.5, application/json;q=0.4", "csv"),
        ("text/csv;q=0.5, */*;q=0.5", "json"),
        ("application/json;q=0, */*", "ndjson"),
        ("image/png;q=0, image/*", "jpeg"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "json"),
        ("nonsense", "json"),
        ("image/png;q=2", "json"),
        ("image/png;q=x, text/csv", "csv"),
        ("image/png ; q=0.3 , text/csv ; q=0.2", "png"),
    ],
)
def test_the_best_form_that_is_accepted_is_taken(accept: str | None, chosen: str) -> None:
    assert choose_format(None, accept) == chosen


@pytest.mark.parametrize(
    "accept",
    ["text/html", "image/gif", "*/*;q=0", "application/json;q=0, text/html", "image/*;q=0.0"],
)
def test_where_nothing_fits_the_refusal_lists_what_there_is(accept: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        choose_format(None, accept)
    assert caught.value.status == 406
    assert caught.value.details["offered"][:3] == [
        "application/json",
        "application/x-ndjson",
        "text/csv",
    ]
    assert "coco" in caught.value.message


def test_the_option_comes_before_the_header() -> None:
    assert choose_format("coco", "text/html") == "coco"


def options(chosen: FormatName, **given: Any) -> PredictOptions:
    return options_for(chosen, PredictOptions.parse(given))


def test_formats_of_instances_have_their_own_masks_and_boxes_and_ask_for_no_more() -> None:
    given: dict[str, Any] = {"masks": "bitmap", "boxes": "normalized"}
    assert options("coco", **given).masks == "rle"
    assert options("geojson", **given).masks == "polygon"
    assert options("csv", **given).masks == "none"
    for chosen in ("coco", "geojson", "csv"):
        changed = options(chosen, **given)
        assert (changed.boxes, changed.segmentation, changed.format) == ("xyxy", "none", chosen)
    assert options("coco").include == ["keypoints"]
    assert options("coco", include="none").include == []
    assert options("csv").include == []


@pytest.mark.parametrize("chosen", ["coco", "geojson", "csv", "png"])
def test_masks_that_are_not_wanted_are_in_no_format(chosen: FormatName) -> None:
    assert options(chosen, masks="none").masks == "none"


@pytest.mark.parametrize("chosen", ["json", "ndjson", "png"])
def test_the_other_formats_leave_the_options_as_they_are(chosen: FormatName) -> None:
    given: dict[str, Any] = {"masks": "bitmap", "boxes": "xywh", "include": ["sem_seg"]}
    assert options(chosen, **given) == PredictOptions.parse({**given, "format": chosen})


def test_a_picture_is_of_one_image() -> None:
    model = FakeDetector().description
    check_format("png", model, 1)
    check_format("json", model, 2)
    with pytest.raises(Unprocessable, match="has 2 images") as caught:
        check_format("webp", model, 2)
    assert caught.value.code == "one_image_only"


def test_a_model_without_instances_has_none_to_tell() -> None:
    model = FakeDetector(task="region_proposal", outputs=("proposals",)).description
    check_format("json", model, 1)
    check_format("png", model, 1)
    with pytest.raises(Unprocessable, match="gives proposals") as caught:
        check_format("coco", model, 1)
    assert caught.value.code == "format_not_supported"
