"""The spool: bounded, private, and empty when its process ends, however that ends."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from service.batches.spool import PREFIX, Spool
from service.errors import ApiError


def test_bytes_are_counted_and_given_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    one, other = spool.new_folder(), spool.new_folder()
    assert one.append("a", b"x" * 40).read_bytes() == b"x" * 40
    one.append("a", b"y" * 20)
    other.append("b", b"z" * 30)
    assert spool.used == 90
    with pytest.raises(ApiError) as caught:
        other.append("b", b"z" * 20)
    assert (caught.value.status, caught.value.code) == (429, "batch_space_full")
    one.remove()
    one.remove()
    assert spool.used == 30
    other.append("b", b"z" * 20)
    with pytest.raises(ApiError) as caught:
        other.append("b", b"z" * 60)
    assert (caught.value.status, caught.value.code) == (413, "batch_too_large")
    spool.close()


def test_inputs_go_before_the_results(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    folder = spool.new_folder()
    folder.append("a", b"x" * 40)
    results = folder.append("results", b"y" * 5)
    folder.remove_inputs("results")
    assert [path.name for path in folder.path.iterdir()] == [results.name]
    assert spool.used == 5
    spool.close()


def test_a_removed_folder_takes_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    folder = spool.new_folder()
    folder.remove()
    with pytest.raises(FileNotFoundError):
        folder.append("a", b"x")
    assert spool.used == 0
    spool.close()


def test_nothing_is_made_before_the_first_job_and_nothing_is_left(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "new", 100)
    spool.close()
    assert not (tmp_path / "new").exists()
    folder = spool.new_folder()
    assert (folder.path.parent.stat().st_mode & 0o777, folder.path.stat().st_mode & 0o777) == (
        0o700,
        0o700,
    )
    spool.close()
    assert list((tmp_path / "new").iterdir()) == []


def test_a_system_without_a_folder_for_temporary_files_has_no_jobs_and_no_other_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    spool = Spool(None, 100)
    assert spool.remove_stale() == []
    with pytest.raises(FileNotFoundError):
        spool.new_folder()
    spool.close()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(
    tmp_path: Path,
) -> None:
    killed = (
        "import os, sys; from pathlib import Path; from service.batches.spool import Spool; "
        "Spool(Path(sys.argv[1]), 100).new_folder().append('a', b'x'); os._exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", killed, tmp_path]).returncode == 1
    (left,) = tmp_path.iterdir()
    living = Spool(tmp_path, 100)
    folder = living.new_folder()
    (tmp_path / "others").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "others")
    other = Spool(tmp_path, 100)
    assert other.remove_stale() == [left]
    assert folder.path.is_dir()
    assert (tmp_path / "others").is_dir()
    living.close()
