"""Label configs: which controls are read out of them, and what is refused."""

import pytest

from service.errors import ApiError, TooLarge, Unprocessable
from service.label_studio import config
from service.label_studio.config import Label, parse_label_config

IMAGE = '<Image name="image" value="$photo"/>'


def view(*tags: str) -> str:
    return f"<View>{IMAGE}{''.join(tags)}</View>"


def control(
    tag: str = "RectangleLabels", inside: str = '<Label value="Car"/>', **given: str
) -> str:
    attributes = {"name": "label", "toName": "image"} | given
    text = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f"<{tag} {text}>{inside}</{tag}>"


def refusal(text: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_label_config(text)
    return caught.value


@pytest.mark.parametrize("tag", config.KINDS)
def test_each_kind_of_control_is_read(tag: str) -> None:
    [found] = parse_label_config(view(control(tag)))
    assert found.kind == tag.lower()
    assert (found.name, found.to_name, found.image_key) == ("label", "image", "photo")
    assert found.labels == (Label("Car", ("Car",)),)
    assert found.score_threshold is None


def test_the_picture_may_stand_behind_its_controls_and_deep_inside() -> None:
    text = f"<View>{control()}<View><View>{IMAGE}</View></View></View>"
    assert len(parse_label_config(text)) == 1


def test_predicted_values_name_the_classes_of_a_label() -> None:
    [found] = parse_label_config(
        view(control(inside='<Label value="Vehicle" predicted_values="car, truck,"/>'))
    )
    assert found.labels == (Label("Vehicle", ("car", "truck")),)


def test_a_label_with_an_alias_is_called_by_it_and_matched_by_its_value() -> None:
    [found] = parse_label_config(view(control(inside='<Label value="car" alias="A1"/>')))
    assert found.labels == (Label("A1", ("car",)),)


def test_thresholds_are_read() -> None:
    [found] = parse_label_config(
        view(control(model_score_threshold="0.25", model_point_threshold="1"))
    )
    assert (found.score_threshold, found.point_threshold) == (0.25, 1.0)


@pytest.mark.parametrize("given", ["2", "-0.1", "nan", "inf", "much", ""])
def test_a_threshold_that_is_none_is_refused(given: str) -> None:
    error = refusal(view(control(model_score_threshold=given)))
    assert (error.status, error.code) == (422, "invalid_label_config")
    assert "model_score_threshold" in error.message


def test_controls_that_are_not_ours_are_passed_over() -> None:
    others = [
        control(model_skip="true"),
        control(toName="audio"),
        control(name=""),
        control("Choices"),
        '<Label value="stray"/>',
    ]
    assert parse_label_config(view(*others)) == ()


def test_a_picture_without_a_variable_is_none() -> None:
    text = f'<View><Image name="image" value="https://example.org/a.jpg"/>{control()}</View>'
    assert parse_label_config(text) == ()


@pytest.mark.parametrize(
    "text",
    ["<View>", "View", "<View></Views>", "<a/><b/>", "\x00", '<View a="&nothing;"/>', "\ud800"],
)
def test_what_is_no_xml_is_refused(text: str) -> None:
    error = refusal(text)
    assert isinstance(error, Unprocessable)
    assert error.code == "invalid_label_config"


@pytest.mark.parametrize(
    "declared",
    [
        '<!ENTITY lol "lol"><!ENTITY lol1 "&lol;&lol;">',
        '<!ENTITY file SYSTEM "file:///etc/passwd">',
        '<!ENTITY % other SYSTEM "http://example.org/x.dtd"> %other;',
        "",
    ],
)
def test_a_document_type_is_refused_before_its_entities_are_read(declared: str) -> None:
    error = refusal(f"<!DOCTYPE View [{declared}]>{view(control())}")
    assert error.code == "invalid_label_config"
    assert "document type" in error.message


def test_a_config_over_the_bound_on_bytes_is_refused() -> None:
    assert isinstance(refusal("<View>" + "é" * 500_000 + "</View>"), TooLarge)
    assert isinstance(refusal(" " * 1_000_001), TooLarge)


def test_a_config_of_very_many_tags_is_refused() -> None:
    assert refusal("<a>" * 60_000).code == "label_config_too_large"
