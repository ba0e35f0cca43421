"""The repository on disk: which models and versions there are, and which of them are complete."""

import os
from pathlib import Path

import pytest
from version_files import FILES, repository, write_files, write_version

from service.errors import ApiError, Conflict, NotFound, Unprocessable
from service.repository.disk.folder import RepositoryFolder
from service.repository.disk.manifest import Manifest
from service.repository.disk.record import ModelRecord
from service.repository.disk.regular_files import VersionProblem


def test_models_are_folders_with_a_name(tmp_path: Path) -> None:
    for name in ("shapes", "cars", ".hidden", "no name"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "elsewhere").symlink_to("/etc")
    (tmp_path / "same").symlink_to("shapes")
    assert RepositoryFolder(tmp_path).models() == ["cars", "same", "shapes"]


def test_a_root_that_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unprocessable) as caught:
        RepositoryFolder(tmp_path / "nowhere")
    assert caught.value.code == "invalid_repository"


def test_an_unknown_model_is_told_with_those_there_are(tmp_path: Path) -> None:
    repository(tmp_path)
    with pytest.raises(NotFound) as caught:
        RepositoryFolder(tmp_path).model("cars")
    assert caught.value.code == "unknown_model"
    assert caught.value.details == {"models": ["shapes"]}


@pytest.mark.parametrize("name", ["..", "../shapes", "/etc", "a/b", ""])
def test_a_path_is_no_model_and_no_version(tmp_path: Path, name: str) -> None:
    model = repository(tmp_path, "1")
    for action in (RepositoryFolder(tmp_path).model, model.version):
        with pytest.raises(Unprocessable) as caught:
            action(name)
        assert caught.value.code == "invalid_name"


def test_a_model_or_version_that_leads_out_is_refused(tmp_path: Path) -> None:
    model = repository(tmp_path, "1")
    (tmp_path / "away").symlink_to("/etc")
    (model.path / "2").symlink_to("/etc")
    for action, name in ((RepositoryFolder(tmp_path).model, "away"), (model.version, "2")):
        with pytest.raises(VersionProblem) as caught:
            action(name)
        assert (caught.value.code, caught.value.status) == ("path_outside_root", 403)
    assert [version.label for version in model.versions()] == ["1"]


def test_a_model_is_made_once(tmp_path: Path) -> None:
    folder = RepositoryFolder(tmp_path)
    assert folder.create_model("cars") == folder.create_model("cars") == folder.model("cars")
    with pytest.raises(Unprocessable):
        folder.create_model("../cars")
    (tmp_path / "file").write_text("")
    with pytest.raises(ApiError):
        folder.create_model("file")


def test_versions_come_in_their_natural_order(tmp_path: Path) -> None:
    model = repository(tmp_path, "10", "2", "v1")
    write_files(model.path / "3")
    write_files(model.path / ".upload-4")
    (model.path / "5").write_text("no folder")
    assert [version.label for version in model.versions()] == ["2", "3", "10", "v1"]
    assert [version.complete for version in model.versions()] == [True, False, True, True]


def test_an_unknown_version_is_told_with_those_there_are(tmp_path: Path) -> None:
    model = repository(tmp_path, "1", "2")
    with pytest.raises(NotFound) as caught:
        model.version("3")
    assert caught.value.code == "unknown_version"
    assert "there are: 1, 2" in caught.value.message


def test_a_version_tells_its_files(tmp_path: Path) -> None:
    model = repository(tmp_path, "1")
    version = model.version("1")
    assert version.config == model.path / "1" / "config.yaml"
    assert version.weights == model.path / "1" / "model_final.pth"
    assert (version.labels, version.model_yaml, version.golden) == (None, None, None)
    assert version.size_bytes == sum(map(len, FILES.values()))
    assert version.manifest() == Manifest.read(version.path)


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".pt", ".safetensors"])
def test_the_weights_are_the_one_file_that_ends_so(tmp_path: Path, suffix: str) -> None:
    write_version(tmp_path, "1", files={f"final{suffix}": b"", "golden/a.pth": b"", ".b.pth": b""})
    version = repository(tmp_path).version("1")
    assert version.weights.name == f"final{suffix}"
    assert version.config is None


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"config.yaml": b""}, "file_missing"),
        ({"a.pth": b"", "b.safetensors": b""}, "several_weights"),
    ],
)
def test_a_version_has_one_weights_file(tmp_path: Path, files: dict[str, bytes], code: str) -> None:
    write_version(tmp_path, "1", files=files)
    version = repository(tmp_path).version("1")
    assert not version.complete
    assert version.problem is not None
    assert version.problem.code == code
    with pytest.raises(VersionProblem):
        _ = version.weights


def test_why_a_version_is_not_complete(tmp_path: Path) -> None:
    model = repository(tmp_path, "1")
    version = model.version("1")
    assert version.problem is None
    with (version.path / "model_final.pth").open("ab") as file:
        file.write(b"x")
    assert version.problem is not None
    assert version.problem.code == "file_changed"
    (version.path / "manifest.json").unlink()
    assert version.problem.code == "version_incomplete"
    assert version.size_bytes == sum(map(len, FILES.values())) + 1


def test_a_version_may_be_a_link_to_another(tmp_path: Path) -> None:
    model = repository(tmp_path, "1")
    (model.path / "2").symlink_to("1")
    assert model.version("2").complete
    assert model.version("2").path == model.version("1").path


def test_the_newest_is_the_last_that_is_complete(tmp_path: Path) -> None:
    model = repository(tmp_path, "9", "10")
    write_files(model.path / "11")
    newest = model.newest_complete()
    assert newest is not None
    assert newest.label == "10"
    assert repository(tmp_path, model="cars").newest_complete() is None


def test_words_and_aliases_stand_for_versions(tmp_path: Path) -> None:
    model = repository(tmp_path, "1", "2", "3")
    model.change(lambda record: record.promoted("1").promoted("2"))
    model.set_alias("stable", "1")
    words = ("latest", "current", "previous", "stable", "3")
    assert [model.resolve(word) for word in words] == ["3", "2", "1", "1", "3"]


@pytest.mark.parametrize("word", ["latest", "current", "previous"])
def test_a_word_that_stands_for_nothing_is_told(tmp_path: Path, word: str) -> None:
    with pytest.raises(NotFound, match=f"no {word} version"):
        repository(tmp_path).resolve(word)


def test_an_alias_is_of_a_version_and_no_version_itself(tmp_path: Path) -> None:
    model = repository(tmp_path, "1", "2")
    with pytest.raises(NotFound):
        model.set_alias("stable", "3")
    with pytest.raises(Conflict) as caught:
        model.set_alias("2", "1")
    assert caught.value.code == "alias_is_a_version"
    assert model.record() == ModelRecord()
    assert not os.path.lexists(model.path / "state.json")
