"""What unfinished uploads leave: removed once nobody writes to it any more."""

import os
import time
from pathlib import Path

import pytest

from service.repository.disk.folder import ModelFolder, RepositoryFolder
from service.repository.disk.staging import StagingFolder, remove_stale_uploads


@pytest.fixture
def model(tmp_path: Path) -> ModelFolder:
    return RepositoryFolder(tmp_path).create_model("shapes")


def staged(model: ModelFolder, label: str, *, age_s: float) -> Path:
    """An upload that was last written to so long ago."""
    folder = StagingFolder(model, label)
    folder.open(create=True)
    folder.begin()
    folder.write(b"x")
    folder.finish("golden/1.jpg")
    folder.close()
    then = time.time() - age_s
    for path in (*folder.path.rglob("*"), folder.path):
        os.utime(path, (then, then))
    return folder.path


def test_only_uploads_that_nobody_goes_on_with_are_removed(model: ModelFolder) -> None:
    old, new = staged(model, "1", age_s=7200), staged(model, "2", age_s=0)
    assert remove_stale_uploads(model.root) == [old]
    assert not old.exists()
    assert new.exists()


def test_one_young_file_keeps_the_upload(model: ModelFolder) -> None:
    old = staged(model, "1", age_s=7200)
    (old / "golden" / "1.jpg").touch()
    assert remove_stale_uploads(model.root) == []


def test_an_upload_that_somebody_has_is_left(model: ModelFolder) -> None:
    old = staged(model, "1", age_s=7200)
    running = StagingFolder(model, "1")
    running.open(create=False)
    assert remove_stale_uploads(model.root) == []
    running.close()
    assert remove_stale_uploads(model.root) == [old]


def test_versions_and_other_hidden_folders_are_left(model: ModelFolder) -> None:
    for name in ("1", ".staging-1"):
        (model.path / name).mkdir()
    assert remove_stale_uploads(model.root, older_than_s=0) == []
    assert sorted(path.name for path in model.path.iterdir()) == [".staging-1", "1"]


def test_what_a_symlink_leads_to_is_left(model: ModelFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / ".upload-1").mkdir(parents=True)
    (outside / ".upload-1" / "precious").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(outside)
    (root / "own").mkdir()
    (root / "own" / ".upload-2").symlink_to(outside / ".upload-1")
    assert remove_stale_uploads(root, older_than_s=0) == []
    assert (outside / ".upload-1" / "precious").exists()
