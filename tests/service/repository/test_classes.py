"""Class ids keep their meaning from version to version, unless told otherwise."""

import pytest
from fake_detector import FakeDetector

from service.errors import Unprocessable
from service.inference.detector import ModelDescription
from service.repository.classes import check_classes


def described(
    *names: str, source: str = "labels.txt", stuff: tuple[str, ...] = ()
) -> ModelDescription:
    detector = FakeDetector(class_names=names, class_names_source=source, stuff_class_names=stuff)
    return detector.description


def refused(old: ModelDescription, new: ModelDescription) -> Unprocessable:
    with pytest.raises(Unprocessable) as caught:
        check_classes(old, new)
    assert caught.value.code == "classes_changed"
    return caught.value


def test_equal_classes_pass() -> None:
    check_classes(described("disc", "star"), described("disc", "star"))


def test_classes_may_be_added_behind_the_others() -> None:
    check_classes(described("disc"), described("disc", "star"))


def test_another_order_is_refused() -> None:
    error = refused(described("disc", "star"), described("star", "disc"))
    assert error.details["changes"] == [
        {"id": 0, "was": "disc", "is": "star"},
        {"id": 1, "was": "star", "is": "disc"},
    ]
    assert "allow_class_changes" in error.message


def test_a_class_that_is_gone_is_refused() -> None:
    error = refused(described("disc", "star"), described("disc"))
    assert error.details["changes"] == [{"id": 1, "was": "star", "is": None}]
    assert "1 was 'star' and is gone" in error.message


def test_a_class_added_in_front_is_refused() -> None:
    assert len(refused(described("disc"), described("bar", "disc")).details["changes"]) == 1


def test_placeholders_may_become_names() -> None:
    check_classes(described("class_0", "class_1", source="placeholder"), described("disc", "star"))


def test_placeholders_may_not_become_fewer() -> None:
    refused(described("class_0", "class_1", source="placeholder"), described("disc"))


def test_names_may_not_become_placeholders() -> None:
    refused(described("disc"), described("class_0", source="placeholder"))


def test_classes_of_a_semantic_head_count_too() -> None:
    refused(described("disc", stuff=("sky", "sea")), described("disc", stuff=("sea", "sky")))


def test_of_many_changes_the_message_names_a_few() -> None:
    old = [f"a{i}" for i in range(80)]
    error = refused(described(*old), described(*reversed(old)))
    assert len(error.details["changes"]) == 80
    assert "and 75 more" in error.message
