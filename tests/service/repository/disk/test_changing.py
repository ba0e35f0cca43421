"""Promote, roll back and remove, on the folder alone."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from version_files import repository, write_files

from service.errors import Conflict, NotFound
from service.repository.disk.adding import staging
from service.repository.disk.changing import promote, remove_version, rollback
from service.repository.disk.disk_errors import VersionNotWritten
from service.repository.disk.record import ModelRecord
from service.repository.disk.regular_files import VersionProblem


def test_promoting_makes_current_and_rolling_back_undoes_it(tmp_path: Path) -> None:
    model = repository(tmp_path, "1", "2")
    promote(model, "1")
    record = promote(model, "2")
    assert (record.current, record.previous) == ("2", "1")
    record = rollback(model)
    assert record == model.record()
    assert (record.current, record.previous) == ("1", None)


def test_promoting_what_is_current_changes_nothing(tmp_path: Path) -> None:
    model = repository(tmp_path, "1")
    assert promote(model, "1") == promote(model, "1")


def test_a_version_is_promoted_only_if_every_byte_is_right(tmp_path: Path) -> None:
    model = repository(tmp_path, "1", "2")
    write_files(model.path / "3")
    promote(model, "1")
    (model.path / "2" / "model_final.pth").write_bytes(b"WEIGHTS")
    for label, code in (("2", "file_changed"), ("3", "version_incomplete")):
        with pytest.raises(VersionProblem, match=f"Version '{label}'") as caught:
            promote(model, label)
        assert caught.value.code == code
    with pytest.raises(NotFound):
        promote(model, "4")
    assert model.record().current == "1"


def test_a_previous_version_that_is_broken_or_gone_is_not_rolled_back_to(tmp_path: Path) -> None:
    model = repository(tmp_path, "1", "2")
    promote(model, "1")
    promote(model, "2")
    (model.path / "1" / "model_final.pth").unlink()
    with pytest.raises(VersionProblem):
        rollback(model)
    shutil.rmtree(model.path / "1")
    with pytest.raises(NotFound):
        rollback(model)
    assert model.record().current == "2"


def test_a_version_is_removed(tmp_path: Path) -> None:
    model = repository(tmp_path, "1", "2")
    remove_version(model, "1")
    assert sorted(os.listdir(model.path)) == [".lock", "2"]
    with pytest.raises(NotFound):
        remove_version(model, "1")


def test_one_that_is_not_complete_can_be_removed(tmp_path: Path) -> None:
    model = repository(tmp_path)
    write_files(model.path / "1")
    remove_version(model, "1")
    assert model.versions() == []


def test_what_is_current_or_has_an_alias_stays(tmp_path: Path) -> None:
    model = repository(tmp_path, "1", "2")
    promote(model, "1")
    model.set_alias("candidate", "2")
    for label, reason in (("1", "is current"), ("2", "called candidate")):
        with pytest.raises(Conflict, match=reason) as caught:
            remove_version(model, label)
        assert caught.value.code == "version_in_use"
        assert model.version(label).complete


def test_removing_the_previous_version_leaves_nothing_to_roll_back_to(tmp_path: Path) -> None:
    model = repository(tmp_path, "1", "2")
    promote(model, "1")
    promote(model, "2")
    remove_version(model, "1")
    assert model.record().previous is None
    with pytest.raises(Conflict):
        rollback(model)


def test_a_link_goes_alone(tmp_path: Path) -> None:
    model = repository(tmp_path, "1")
    (model.path / "2").symlink_to("1")
    remove_version(model, "2")
    assert [version.label for version in model.versions() if version.complete] == ["1"]


@pytest.mark.parametrize("step", ["unlink", "rename"])
def test_a_removal_that_fails_leaves_a_whole_version_or_none_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    model = repository(tmp_path, "1")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(VersionNotWritten):
            remove_version(model, "1")
    (version,) = model.versions()
    assert version.complete == (step == "unlink")
    remove_version(model, "1")
    assert model.versions() == []
    assert model.record() == ModelRecord()


def test_files_that_stay_behind_are_hidden_and_go_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = repository(tmp_path, "1")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as a crash at this point
        remove_version(model, "1")
    assert model.versions() == []
    assert len(os.listdir(model.path)) == 2
    with staging(model):
        pass
    assert os.listdir(model.path) == [".lock"]
