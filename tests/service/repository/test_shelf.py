"""Shelves: what a version is called, what it is made of, and whether it is still that."""

from pathlib import Path

import pytest
from fake_detector import FakeDetector
from fake_repository import FolderLoader, make_version

from models.errors import ModelError
from service.errors import ApiError, Conflict, NotFound, Unprocessable
from service.repository.disk.folder import RepositoryFolder
from service.repository.disk.manifest import Manifest
from service.repository.shelf import FileShelf, FolderShelf
from service.repository.source import ModelSource
from service.repository.version import ModelVersion

RETINANET = "COCO-Detection/retinanet_R_50_FPN_3x"


def nothing(done: int, total: int) -> None:
    """Progress that nobody wants."""


def on_disk(root: Path, *labels: str) -> FolderShelf:
    for label in labels:
        make_version(root, label)
    return FolderShelf(RepositoryFolder(root).model("shapes"))


def kept(*sha256: str) -> FileShelf:
    """A shelf that has loaded these weights, one after the other."""
    shelf = FileShelf()
    for number, digest in enumerate(sha256, start=1):
        candidate = shelf.next(ModelSource(None, Path(f"v{number}.pth")))
        detector = FakeDetector(number, weights_sha256=digest)
        shelf.keep(candidate, ModelVersion("shapes", candidate.label, detector))
        shelf.change(lambda record, label=candidate.label: record.promoted(label))
    return shelf


# --- a folder -------------------------------------------------------------------------------------


def test_labels_are_in_natural_order_complete_or_not(tmp_path: Path) -> None:
    make_version(tmp_path, "9", sealed=False)
    assert on_disk(tmp_path, "10", "2").labels() == ["2", "9", "10"]


def test_a_word_stands_for_what_the_record_or_the_folder_says(tmp_path: Path) -> None:
    shelf = on_disk(tmp_path, "2", "3", "10")
    make_version(tmp_path, "11", sealed=False)
    shelf.change(lambda record: record.promoted("2"))
    shelf.change(lambda record: record.promoted("3").with_alias("stable", "2"))
    words = ("latest", "current", "previous", "stable", "10", "11")
    assert [shelf.label_of(word) for word in words] == ["10", "3", "2", "2", "10", "11"]


@pytest.mark.parametrize("word", ["current", "previous", "7"])
def test_a_word_that_stands_for_nothing_is_404(tmp_path: Path, word: str) -> None:
    with pytest.raises(NotFound) as caught:
        on_disk(tmp_path, "1").label_of(word)
    assert caught.value.code == "unknown_version"


def test_an_alias_of_a_version_that_is_gone_is_404(tmp_path: Path) -> None:
    shelf = on_disk(tmp_path, "1")
    shelf.change(lambda record: record.with_alias("stable", "7"))
    with pytest.raises(NotFound):
        shelf.label_of("stable")


@pytest.mark.parametrize("word", ["../1", "", ".hidden", "a/b"])
def test_a_path_is_no_word(tmp_path: Path, word: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        on_disk(tmp_path, "1").label_of(word)
    assert caught.value.code == "invalid_name"


def test_the_record_is_read_again_when_asked_to(tmp_path: Path) -> None:
    shelf = on_disk(tmp_path, "1")
    shelf.folder.change(lambda record: record.promoted("1"))
    assert shelf.record().current is None
    assert shelf.refresh().current == "1"
    assert shelf.record().current == "1"


def test_what_a_change_raises_leaves_the_record(tmp_path: Path) -> None:
    shelf = on_disk(tmp_path, "1")
    with pytest.raises(Conflict):
        shelf.change(lambda record: record.rolled_back())
    assert shelf.record().current is None


def test_a_candidate_has_its_files_its_hash_and_its_root(tmp_path: Path) -> None:
    make_version(tmp_path, "1", labels=("a", "b"), files={"model.yaml": "description: Best."})
    shelf = on_disk(tmp_path)
    candidate, path = shelf.candidate("1"), tmp_path.resolve() / "shapes" / "1"
    source = candidate.source
    assert (source.config, source.weights) == (path / "config.yaml", path / "model_final.pth")
    assert (source.labels, source.root) == (path / "labels.txt", tmp_path.resolve())
    assert source.settings is not None
    assert source.settings.description == "Best."
    assert candidate.sha256 == Manifest.read(path).files["model_final.pth"].sha256
    assert candidate.folder is not None
    assert candidate.folder.path == path


def test_an_incomplete_version_is_no_candidate(tmp_path: Path) -> None:
    make_version(tmp_path, "1", sealed=False)
    with pytest.raises(ApiError) as caught:
        on_disk(tmp_path).candidate("1")
    assert (caught.value.status, caught.value.code) == (422, "version_incomplete")


def test_settings_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    make_version(tmp_path, "1", files={"model.yaml": "no_such_key: 1"})
    with pytest.raises(ModelError, match="no_such_key"):
        on_disk(tmp_path).candidate("1")


def test_the_config_may_be_one_of_the_zoo(tmp_path: Path) -> None:
    folder = make_version(tmp_path, "1", files={"model.yaml": f"zoo: {RETINANET}"}, sealed=False)
    (folder / "config.yaml").unlink()
    Manifest.of(folder).write(folder)
    config = on_disk(tmp_path).candidate("1").source.config
    assert config is not None
    assert config.name == RETINANET


def test_without_any_config_the_weights_tell_what_they_are_of(tmp_path: Path) -> None:
    folder = make_version(tmp_path, "1", sealed=False)
    (folder / "config.yaml").unlink()
    Manifest.of(folder).write(folder)
    assert on_disk(tmp_path).candidate("1").source.config is None


def test_two_configs_are_one_too_many(tmp_path: Path) -> None:
    make_version(tmp_path, "1", files={"model.yaml": f"zoo: {RETINANET}"})
    with pytest.raises(Unprocessable) as caught:
        on_disk(tmp_path).candidate("1")
    assert caught.value.code == "two_configs"
    assert RETINANET in caught.value.message


def test_files_are_read_before_the_load_with_progress_in_bytes(tmp_path: Path) -> None:
    shelf = on_disk(tmp_path, "1")
    told: list[tuple[int, int]] = []
    shelf.check_before(shelf.candidate("1"), lambda done, total: told.append((done, total)))
    size = shelf.folder.version("1").size_bytes
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_file_that_is_another_is_refused_before_the_load(tmp_path: Path) -> None:
    shelf = on_disk(tmp_path, "1")
    candidate = shelf.candidate("1")
    candidate.source.weights.write_text("7")
    with pytest.raises(ApiError) as caught:
        shelf.check_before(candidate, nothing)
    assert caught.value.code == "file_changed"


def test_weights_that_were_replaced_for_the_load_alone_are_refused(tmp_path: Path) -> None:
    shelf = on_disk(tmp_path, "1")
    candidate = shelf.candidate("1")
    check_after = shelf.check_before(candidate, nothing)
    candidate.source.weights.write_text("7")
    detector = FolderLoader()(candidate.source)
    candidate.source.weights.write_text("1")
    with pytest.raises(Unprocessable) as caught:
        check_after(detector)
    assert caught.value.code == "file_changed"
    check_after(FolderLoader()(candidate.source))


def test_a_file_that_was_replaced_during_the_load_is_refused(tmp_path: Path) -> None:
    shelf = on_disk(tmp_path, "1")
    candidate = shelf.candidate("1")
    check_after = shelf.check_before(candidate, nothing)
    detector = FolderLoader()(candidate.source)
    assert isinstance(candidate.source.config, Path)
    candidate.source.config.write_text("MADE UP")
    with pytest.raises(ApiError) as caught:
        check_after(detector)
    assert caught.value.code == "file_changed"


# --- files that were named alone ------------------------------------------------------------------


def test_versions_are_numbered_as_they_are_kept() -> None:
    shelf = kept(*("0" * 64 for _ in range(10)))
    assert shelf.labels() == [str(number) for number in range(1, 11)]
    assert shelf.next(ModelSource(None, Path("new.pth"))).label == "11"


def test_what_was_not_kept_uses_no_number_up() -> None:
    shelf = FileShelf()
    source = ModelSource(None, Path("v1.pth"))
    assert shelf.next(source) == shelf.next(source)
    assert shelf.next(source).sha256 is None
    assert shelf.labels() == []


def test_a_kept_version_knows_its_files_and_the_hash_of_what_was_loaded() -> None:
    candidate = kept("a" * 64, "b" * 64).candidate("2")
    assert (candidate.source.weights, candidate.sha256) == (Path("v2.pth"), "b" * 64)


def test_words_stand_for_versions_here_too() -> None:
    shelf = kept("a" * 64, "b" * 64)
    shelf.change(lambda record: record.with_alias("stable", "1"))
    words = ("latest", "current", "previous", "stable", "1")
    assert [shelf.label_of(word) for word in words] == ["2", "2", "1", "1", "1"]


@pytest.mark.parametrize("word", ["3", "previous", "stable", "x" * 1000])
def test_an_unknown_version_is_404_with_those_that_there_are(word: str) -> None:
    shelf = kept("a" * 64)
    for ask in (shelf.label_of, shelf.candidate):
        with pytest.raises(NotFound) as caught:
            ask(word)
        assert caught.value.code == "unknown_version"
        assert caught.value.message.endswith("there are: 1.")
        assert len(caught.value.message) < 200


@pytest.mark.parametrize("word", ["latest", "current", "1"])
def test_before_the_first_there_is_none(word: str) -> None:
    with pytest.raises(NotFound, match=r"there are: none\.$"):
        FileShelf().label_of(word)


def test_a_rollback_to_files_that_were_overwritten_is_refused(tmp_path: Path) -> None:
    shelf, loader = FileShelf(), FolderLoader()
    weights = tmp_path / "model_final.pth"
    weights.write_text("1")
    candidate = shelf.next(ModelSource(None, weights))
    shelf.keep(candidate, ModelVersion("shapes", "1", loader(candidate.source)))
    weights.write_text("2")
    again = shelf.candidate("1")
    check_after = shelf.check_before(again, nothing)
    with pytest.raises(Unprocessable) as caught:
        check_after(loader(again.source))
    assert caught.value.code == "file_changed"
    assert "keep_previous=memory" in caught.value.message


def test_a_file_that_is_replaced_while_it_loads_is_refused(tmp_path: Path) -> None:
    shelf, weights = FileShelf(), tmp_path / "model_final.pth"
    weights.write_text("1")
    candidate = shelf.next(ModelSource(None, weights))
    check_after = shelf.check_before(candidate, nothing)
    detector = FolderLoader()(candidate.source)
    weights.unlink()
    weights.write_text("22")
    with pytest.raises(ApiError) as caught:
        check_after(detector)
    assert caught.value.code == "file_changed"
