"""A served model: which version a request gets by the word that it says."""

from pathlib import Path

import pytest
from fake_detector import FakeDetector
from fake_repository import make_version

from service.errors import Conflict, NotFound, Unavailable
from service.repository.disk.folder import RepositoryFolder
from service.repository.served import ServedModel
from service.repository.shelf import FolderShelf
from service.repository.version import ModelVersion, VersionState


def loaded(model: ServedModel, label: str) -> ModelVersion:
    version = ModelVersion(model.name, label, FakeDetector(int(label)))
    model.versions[label] = version
    return version


@pytest.fixture
def model(tmp_path: Path) -> ServedModel:
    """Versions 1 to 4 on disk; 3 is current, 2 was before it, 1 is loaded beside it as stable."""
    for label in "1234":
        make_version(tmp_path, label)
    shelf = FolderShelf(RepositoryFolder(tmp_path).model("shapes"))
    for label in "23":
        shelf.change(lambda record, label=label: record.promoted(label))
    shelf.change(lambda record: record.with_alias("stable", "1"))
    model = ServedModel("shapes", shelf)
    model.current = loaded(model, "3")
    loaded(model, "1")
    return model


@pytest.mark.parametrize(
    ("word", "label"),
    [(None, "3"), ("current", "3"), ("3", "3"), ("1", "1"), ("stable", "1")],
)
def test_a_word_gets_the_version_that_it_stands_for(
    model: ServedModel, word: str | None, label: str
) -> None:
    assert model.resolve(word) is model.versions[label]


@pytest.mark.parametrize(("word", "label"), [("2", "2"), ("previous", "2"), ("latest", "4")])
def test_a_version_that_is_not_loaded_is_409_with_what_to_do(
    model: ServedModel, word: str, label: str
) -> None:
    with pytest.raises(Conflict) as caught:
        model.resolve(word)
    assert caught.value.code == "version_not_loaded"
    assert f"POST /models/shapes/versions/{label}/load" in caught.value.message
    assert caught.value.details == {"model": "shapes", "version": label, "loaded": ["1", "3"]}


def test_the_previous_and_the_latest_version_answer_once_they_are_loaded(
    model: ServedModel,
) -> None:
    previous, latest = loaded(model, "2"), loaded(model, "4")
    assert model.resolve("previous") is previous
    assert model.resolve("latest") is latest


def test_a_version_that_is_not_there_is_404(model: ServedModel) -> None:
    with pytest.raises(NotFound) as caught:
        model.resolve("9")
    assert caught.value.code == "unknown_version"


def test_an_alias_whose_version_is_gone_is_404(model: ServedModel) -> None:
    model.shelf.change(lambda record: record.with_alias("candidate", "9"))
    with pytest.raises(NotFound):
        model.resolve("candidate")


def test_current_is_what_answers_here_whatever_is_recorded(model: ServedModel) -> None:
    model.shelf.change(lambda record: record.promoted("4"))
    assert model.label_of("current") == model.resolve("current").label == "3"


def test_before_the_first_version_the_answer_is_503(model: ServedModel) -> None:
    empty = ServedModel("shapes", model.shelf)
    assert not empty.serves
    for word in (None, "current"):
        with pytest.raises(Unavailable) as caught:
            empty.resolve(word)
        assert caught.value.code == "not_ready"


def test_a_version_with_an_alias_is_needed(model: ServedModel) -> None:
    assert model.is_needed("1")
    assert not model.is_needed("2")
    model.shelf.change(lambda record: record.without_alias("stable"))
    assert not model.is_needed("1")


def test_where_a_version_stands_is_noted_with_its_reason(model: ServedModel) -> None:
    model.mark("4", VersionState.FAILED, "It is no checkpoint.")
    assert (model.statuses["4"].state, model.statuses["4"].reason) == (
        VersionState.FAILED,
        "It is no checkpoint.",
    )
    model.mark("4", VersionState.READY)
    assert (model.statuses["4"].state, model.statuses["4"].reason) == (VersionState.READY, None)


def test_a_new_current_version_ends_the_loss_of_the_last(model: ServedModel) -> None:
    model.lost = True
    model.current = loaded(model, "4")
    assert not model.lost
