"""Where class names come from, in order."""

from pathlib import Path
from typing import Any

import pytest

from models import ModelError
from models.metadata import dataset_metadata
from service.repository.labels import ClassNames

METADATA = dataset_metadata("voc_2007_test")
assert METADATA is not None
VOC = {"known": METADATA.thing_classes, "source": METADATA.source}


def write(path: Path, number: int, prefix: str) -> Path:
    path.write_text("".join(f"{prefix}{i}\n" for i in range(number)))
    return path


def test_the_order_is_labels_sidecar_data_set_placeholders(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"

    def find(labels: Path | None = None) -> ClassNames:
        return ClassNames.find(labels, config=config, num_classes=20, **VOC)

    assert find().source == "data set voc_2007_test"
    assert find().names[0] == "aeroplane"
    write(tmp_path / "labels.txt", 20, "beside")
    assert (find().source, find().names[0]) == ("labels.txt", "beside0")
    named = write(tmp_path / "mine.txt", 20, "named")
    assert (find(named).source, find(named).names[0]) == ("mine.txt", "named0")
    own = [f"own{i}" for i in range(20)]
    found = ClassNames.find(named, config=config, num_classes=20, settings=own, **VOC)
    assert found == ClassNames(tuple(own), "model.yaml")


@pytest.mark.parametrize("given", [{}, VOC])
def test_without_names_that_fit_there_are_placeholders(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    found = ClassNames.find(None, config=tmp_path / "c.yaml", num_classes=2, **given)
    assert found == ClassNames(("class_0", "class_1"), "placeholder")


def test_a_model_of_the_zoo_has_no_folder_to_look_in() -> None:
    assert ClassNames.find(None, config=None, num_classes=20, **VOC).names == (
        METADATA.thing_classes
    )
    assert ClassNames.find(None, config=None, num_classes=1).source == "placeholder"


def test_a_labels_file_that_does_not_fit_is_refused_whatever_else_is_known(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.txt", 3, "x")
    with pytest.raises(ModelError, match="has 3 names, but the model has 20"):
        ClassNames.find(labels, config=None, num_classes=20, **VOC)


def test_settings_with_a_wrong_number_of_names_are_refused_whatever_else_is_known() -> None:
    with pytest.raises(
        ModelError, match=r"model\.yaml has 3 names, but the model has 20"
    ) as caught:
        ClassNames.find(None, config=None, num_classes=20, settings=("a", "b", "c"), **VOC)
    assert caught.value.details == {"names": 3, "classes": 20}
