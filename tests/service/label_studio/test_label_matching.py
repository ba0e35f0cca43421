"""Which label stands for which class."""

from service.label_studio.config import Label
from service.label_studio.labels import match_labels


def test_a_label_stands_for_what_it_predicts() -> None:
    labels = [Label("Vehicle", ("car", "truck")), Label("person", ("person",))]
    assert match_labels(["person", "car", "truck"], labels) == {
        0: "person",
        1: "Vehicle",
        2: "Vehicle",
    }


def test_case_does_not_matter_unless_names_differ_in_it_alone() -> None:
    labels = [Label("CAR", ("CAR",)), Label("car", ("car",))]
    assert match_labels(["Car", "car", "CAR"], labels) == {0: "CAR", 1: "car", 2: "CAR"}


def test_a_class_without_a_label_is_left_out() -> None:
    assert match_labels(["cat", "dog"], [Label("Dog", ("Dog",))]) == {1: "Dog"}


def test_no_labels_match_nothing() -> None:
    assert match_labels(["cat"], []) == {}
