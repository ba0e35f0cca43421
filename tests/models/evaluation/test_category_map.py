"""How classes of a model become categories of a data set."""

import pytest
from coco_files import DatasetFiles

from models.evaluation import CategoryMap, EvaluationError

PLACEHOLDERS = ["class_0", "class_1"]


def test_by_name_whatever_the_order_of_ids(files: DatasetFiles) -> None:
    found = CategoryMap.between(files.load(), ["cat", "dog"])
    assert (found.category_ids, found.matched_by) == ((5, 2), "name")


def test_classes_that_the_data_set_does_not_know_are_left_out(files: DatasetFiles) -> None:
    found = CategoryMap.between(files.load(), ["bird", "dog", "cat"])
    assert (found.category_ids, found.matched_by) == ((None, 2, 5), "name")


def test_placeholders_take_categories_in_the_order_of_their_ids(files: DatasetFiles) -> None:
    found = CategoryMap.between(files.load(), PLACEHOLDERS)
    assert (found.category_ids, found.matched_by) == ((2, 5), "order")


def test_a_category_that_nothing_is_annotated_with_need_be_no_class(files: DatasetFiles) -> None:
    files.content["categories"].append({"id": 0, "name": "animals"})
    found = CategoryMap.between(files.load(), ["cat", "dog"])
    assert (found.category_ids, found.matched_by) == ((5, 2), "name")


@pytest.mark.parametrize("names", [["cat", "cow"], ["class_0"], ["class_1", "class_0"], []])
def test_what_does_not_fit_is_told_with_both_lists(files: DatasetFiles, names: list[str]) -> None:
    with pytest.raises(EvaluationError) as caught:
        CategoryMap.between(files.load(), names)
    assert "the categories dog, cat;" in caught.value.message
    assert (", ".join(names) or "(none)") in caught.value.message
    assert caught.value.details["categories"] == ["dog", "cat"]
    assert caught.value.details["classes"] == names


def test_a_data_set_without_annotations_is_not_matched_by_chance(files: DatasetFiles) -> None:
    files.content["annotations"] = []
    with pytest.raises(EvaluationError, match="Give both the same names"):
        CategoryMap.between(files.load(), ["cow", "horse"])


def test_two_classes_of_one_name(files: DatasetFiles) -> None:
    with pytest.raises(EvaluationError, match="two classes of one name"):
        CategoryMap.between(files.load(), ["cat", "cat", "dog"])
