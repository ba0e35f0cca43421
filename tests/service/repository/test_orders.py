"""Orders: what a request, the watch or the command line asks for, and what becomes of the record."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_detector import FakeDetector
from fake_repository import make_version

from service.errors import Conflict, Forbidden, NotFound, Unprocessable
from service.repository.disk.folder import RepositoryFolder
from service.repository.disk.record import ModelRecord
from service.repository.model_settings import Gate
from service.repository.orders import Order, Wanted, files, going_back, loading, promotion
from service.repository.served import ServedModel
from service.repository.shelf import FileShelf, FolderShelf
from service.repository.source import ModelSource
from service.repository.version import ModelVersion

GATE = "gate: {dataset: ../set.json, images: ../pictures, min_ap: 60}"


class Repo:
    """Versions 1 to 3 on disk, of which 2 is current, and was made so after 1."""

    def __init__(self, root: Path, **files: str) -> None:
        self.root = root
        for label in "123":
            make_version(root, label, files=files or None)
        self.folder = RepositoryFolder(root).model("shapes")
        self.shelf = FolderShelf(self.folder)
        for label in "12":
            self.shelf.change(lambda record, label=label: record.promoted(label))
        self.model = ServedModel("shapes", self.shelf)
        self.model.current = ModelVersion("shapes", "2", FakeDetector(2))

    def wanted(self, **how: Any) -> Wanted:
        return Wanted(self.root, **how)

    def after(self, order: Order) -> ModelRecord:
        """The record once ``order`` is done."""
        record = self.shelf.record()
        return order.change(record) if order.change is not None else record


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


# --- a promotion ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "label"), [("3", "3"), ("latest", "3"), ("previous", "1")])
def test_a_version_becomes_current_by_its_label_or_a_word(
    repo: Repo, word: str, label: str
) -> None:
    order = promotion(repo.model, word, repo.wanted())
    assert (order.candidate.label, order.make_current) == (label, True)
    after = repo.after(order)
    assert (after.current, after.previous) == (label, "2")
    assert after.history[-1]["action"] == "promote"


def test_an_alias_names_a_version_and_is_not_what_is_recorded(repo: Repo) -> None:
    repo.shelf.change(lambda record: record.with_alias("candidate", "3"))
    order = promotion(repo.model, "candidate", repo.wanted())
    assert repo.after(order).current == "3"


def test_what_is_recorded_as_current_is_not_recorded_again(repo: Repo) -> None:
    assert promotion(repo.model, "2", repo.wanted()).change is None


def test_without_a_word_it_is_what_the_record_on_disk_says_now(repo: Repo) -> None:
    repo.folder.change(lambda record: record.promoted("3"))
    order = promotion(repo.model, None, repo.wanted())
    assert (order.candidate.label, order.change) == ("3", None)


def test_without_a_word_and_a_record_it_is_the_latest(tmp_path: Path) -> None:
    for label in ("9", "10"):
        make_version(tmp_path, label)
    model = ServedModel("shapes", FolderShelf(RepositoryFolder(tmp_path).model("shapes")))
    assert promotion(model, None, Wanted(tmp_path)).candidate.label == "10"


def test_an_unknown_version_is_404(repo: Repo) -> None:
    with pytest.raises(NotFound):
        promotion(repo.model, "9", repo.wanted())


def test_an_incomplete_version_is_422(repo: Repo) -> None:
    make_version(repo.root, "4", sealed=False)
    with pytest.raises(Unprocessable) as caught:
        promotion(repo.model, "4", repo.wanted())
    assert caught.value.code == "version_incomplete"


def test_how_it_shall_be_taken_up_is_handed_on(repo: Repo) -> None:
    how = {"dry_run": True, "strategy": "in_place", "allow_class_changes": True}
    order = promotion(repo.model, "3", repo.wanted(**how))
    assert {key: getattr(order, key) for key in how} == how


# --- gates ----------------------------------------------------------------------------------------


@pytest.fixture
def gated(tmp_path: Path) -> Repo:
    """Its versions have a gate of their own."""
    return Repo(tmp_path, **{"model.yaml": GATE})


def test_the_gate_of_model_yaml_is_the_default_its_paths_beside_it(gated: Repo) -> None:
    order = promotion(gated.model, "3", gated.wanted())
    assert order.gate is not None
    assert order.gate.gate.min_ap == 60
    assert order.gate.dataset == gated.folder.path / "set.json"
    assert order.gate.images == gated.folder.path / "pictures"


def test_the_gate_of_a_request_comes_before_it_its_paths_under_the_root(gated: Repo) -> None:
    gate = Gate(dataset="shapes/other.json", max_drop=1.0)
    order = promotion(gated.model, "3", gated.wanted(gate=gate))
    assert order.gate is not None
    assert (order.gate.gate, order.gate.images) == (gate, None)
    assert order.gate.dataset == gated.root.resolve() / "shapes" / "other.json"


def test_false_is_no_gate(gated: Repo) -> None:
    assert promotion(gated.model, "3", gated.wanted(gate=False)).gate is None


def test_without_either_there_is_none(repo: Repo) -> None:
    assert promotion(repo.model, "3", repo.wanted()).gate is None


@pytest.mark.parametrize("path", ["../set.json", "/etc/passwd", "a/../../set.json"])
def test_a_request_names_nothing_outside_of_the_root(repo: Repo, path: str) -> None:
    with pytest.raises(Forbidden):
        promotion(repo.model, "3", repo.wanted(gate=Gate(dataset=path)))


def test_nor_does_model_yaml(tmp_path: Path) -> None:
    repo = Repo(tmp_path, **{"model.yaml": "gate: {dataset: ../../../set.json}"})
    with pytest.raises(Forbidden):
        promotion(repo.model, "3", repo.wanted())


def test_a_version_that_is_loaded_beside_the_others_has_its_gate_too(gated: Repo) -> None:
    assert loading(gated.model, "3", gated.wanted()).gate is not None


def test_the_way_back_has_none(gated: Repo) -> None:
    assert going_back(gated.model, gated.wanted()).gate is None


# --- loading beside, aliases ----------------------------------------------------------------------


def test_what_is_loaded_beside_changes_no_record(repo: Repo) -> None:
    order = loading(repo.model, "latest", repo.wanted())
    assert (order.candidate.label, order.make_current, order.change) == ("3", False, None)


def test_an_alias_is_recorded_with_the_version_that_it_names(repo: Repo) -> None:
    order = loading(repo.model, "previous", repo.wanted(), alias="stable")
    assert not order.make_current
    after = repo.after(order)
    assert (after.aliases, after.current) == ({"stable": "1"}, "2")


def test_an_alias_is_not_called_like_a_version(repo: Repo) -> None:
    with pytest.raises(Conflict) as caught:
        loading(repo.model, "1", repo.wanted(), alias="3")
    assert caught.value.code == "alias_is_a_version"


@pytest.mark.parametrize("alias", ["latest", "../up", ""])
def test_an_alias_is_a_name_and_no_reserved_word(repo: Repo, alias: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        loading(repo.model, "1", repo.wanted(), alias=alias)
    assert caught.value.code == "invalid_name"


# --- going back -----------------------------------------------------------------------------------


def test_going_back_takes_the_previous_version_and_its_classes(repo: Repo) -> None:
    order = going_back(repo.model, repo.wanted(strategy="in_place"))
    assert (order.candidate.label, order.strategy) == ("1", "in_place")
    assert order.allow_class_changes
    after = repo.after(order)
    assert (after.current, after.history[-1]["action"]) == ("1", "rollback")


def test_it_goes_back_from_nothing_else_than_what_serves(repo: Repo) -> None:
    repo.folder.change(lambda record: record.promoted("3"))
    with pytest.raises(Conflict) as caught:
        going_back(repo.model, repo.wanted())
    assert caught.value.code == "record_differs"
    assert caught.value.details == {"recorded": "3", "current": "2"}


def test_versions_that_were_deleted_by_hand_are_passed_over(repo: Repo) -> None:
    repo.folder.change(lambda record: record.promoted("3"))
    repo.model.current = ModelVersion("shapes", "3", FakeDetector(3))
    shutil.rmtree(repo.folder.path / "2")
    order = going_back(repo.model, repo.wanted())
    assert order.candidate.label == "1"
    after = repo.after(order)
    assert (after.current, after.previous) == ("1", None)


def test_it_ends_on_what_was_loaded_even_if_another_process_was_faster(repo: Repo) -> None:
    order = going_back(repo.model, repo.wanted())
    repo.folder.change(lambda record: record.promoted("3"))
    repo.shelf.refresh()
    assert repo.after(order).current == "1"


def test_without_a_previous_version_it_is_409(tmp_path: Path) -> None:
    make_version(tmp_path, "1")
    model = ServedModel("shapes", FolderShelf(RepositoryFolder(tmp_path).model("shapes")))
    with pytest.raises(Conflict) as caught:
        going_back(model, Wanted(tmp_path))
    assert caught.value.code == "no_previous_version"


def test_what_is_in_memory_needs_no_files(repo: Repo) -> None:
    repo.model.parked = ModelVersion("shapes", "1", FakeDetector(1))
    for path in (repo.folder.path / "1").iterdir():
        path.unlink()
    assert going_back(repo.model, repo.wanted()).candidate.label == "1"


# --- files that were named alone ------------------------------------------------------------------


def alone() -> ServedModel:
    return ServedModel("shapes", FileShelf())


def test_files_are_the_next_version(tmp_path: Path) -> None:
    model, source = alone(), ModelSource(None, tmp_path / "v1.pth")
    order = files(model, source, Wanted(tmp_path))
    assert (order.candidate.label, order.candidate.source) == ("1", source)
    assert order.change is not None
    assert order.change(ModelRecord()).current == "1"


def test_their_gate_is_that_of_the_request(tmp_path: Path) -> None:
    source = ModelSource(None, tmp_path / "v1.pth")
    gate = Gate(dataset="set.json")
    order = files(alone(), source, Wanted(tmp_path, gate=gate))
    assert order.gate is not None
    assert order.gate.dataset == tmp_path.resolve() / "set.json"
    assert files(alone(), source, Wanted(tmp_path)).gate is None


def test_a_model_of_a_repository_takes_no_files(repo: Repo) -> None:
    with pytest.raises(Unprocessable) as caught:
        files(repo.model, ModelSource(None, repo.root / "v1.pth"), repo.wanted())
    assert caught.value.code == "version_required"
    assert "detserve models add" in caught.value.message


def test_a_version_that_was_named_alone_is_current_again_by_its_number(tmp_path: Path) -> None:
    model = alone()
    assert isinstance(model.shelf, FileShelf)
    candidate = model.shelf.next(ModelSource(None, tmp_path / "v1.pth"))
    model.shelf.keep(candidate, ModelVersion("shapes", "1", FakeDetector(1)))
    assert promotion(model, "1", Wanted(tmp_path)).candidate.source == candidate.source
    with pytest.raises(NotFound):
        promotion(model, "2", Wanted(tmp_path))
