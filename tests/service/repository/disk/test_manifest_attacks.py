"""Files that are none, lead elsewhere, or claim to be enormous: refused, and at once."""

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from version_files import write_files, write_version

from service.repository.disk.manifest import Manifest, check_regular
from service.repository.disk.regular_files import VersionProblem, open_regular

WEIGHTS = "model_final.pth"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    # The path of a socket is short.
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
        server.bind(path.name)


def folder(path: Path) -> None:
    path.mkdir()


def problem_of(action: Callable[[], object]) -> VersionProblem:
    with pytest.raises(VersionProblem) as caught:
        action()
    return caught.value


@pytest.mark.parametrize("make", [fifo, listening, folder])
def test_what_is_no_regular_file_is_refused_and_blocks_nobody(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    version = write_version(tmp_path, "1")
    (version / WEIGHTS).unlink()
    make(version / WEIGHTS)
    problem = problem_of(lambda: Manifest.read(version).verify(version))
    assert (problem.code, problem.status) == ("not_a_regular_file", 422)


@pytest.mark.parametrize("make", [fifo, listening])
def test_neither_is_it_sealed(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(write_files(tmp_path) / "labels.txt")
    assert problem_of(lambda: Manifest.of(tmp_path)).code == "not_a_regular_file"
    assert problem_of(lambda: check_regular(tmp_path)).code == "not_a_regular_file"


def test_a_manifest_that_is_a_pipe_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    assert problem_of(lambda: Manifest.read(tmp_path)).code == "not_a_regular_file"


def test_a_device_under_the_root_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise AssertionError("opening a device can do something")

    monkeypatch.setattr(os, "open", refuse)
    device_path = Path("/dev/zero")
    problem = problem_of(lambda: open_regular(device_path, Path("/dev"), "zero"))
    assert problem.code == "not_a_regular_file"


@pytest.mark.parametrize("target", ["/etc/hostname", "/dev/zero", "../../../secret", "/nowhere/x"])
def test_a_symlink_out_of_the_root_is_refused(tmp_path: Path, target: str) -> None:
    root = tmp_path / "root"
    (tmp_path / "secret").write_bytes(b"weights")
    version = write_version(root, "1")
    (version / WEIGHTS).unlink()
    (version / WEIGHTS).symlink_to(target)
    problem = problem_of(lambda: Manifest.read(version).verify(version, root=root))
    assert (problem.code, problem.status) == ("path_outside_root", 403)
    assert target not in problem.message
    assert problem_of(lambda: Manifest.of(version, root=root)).code == "path_outside_root"


def test_a_symlink_that_stays_under_the_root_is_fine(tmp_path: Path) -> None:
    first, second = write_version(tmp_path, "1"), write_files(tmp_path / "shapes" / "2")
    (second / WEIGHTS).unlink()
    (second / WEIGHTS).symlink_to(Path("..", "1", WEIGHTS))
    manifest = Manifest.of(second, root=tmp_path)
    manifest.verify(second, root=tmp_path)
    assert manifest.files[WEIGHTS] == Manifest.read(first).files[WEIGHTS]


def test_without_a_root_a_symlink_stays_in_the_version(tmp_path: Path) -> None:
    write_version(tmp_path, "1")
    second = write_files(tmp_path / "shapes" / "2")
    (second / WEIGHTS).unlink()
    (second / WEIGHTS).symlink_to(Path("..", "1", WEIGHTS))
    assert problem_of(lambda: Manifest.of(second)).code == "path_outside_root"


def test_a_circle_of_symlinks_ends(tmp_path: Path) -> None:
    version = write_version(tmp_path, "1")
    (version / WEIGHTS).unlink()
    (version / WEIGHTS).symlink_to(WEIGHTS)
    assert problem_of(lambda: Manifest.read(version).verify(version)).code == "file_missing"


def test_a_folder_that_is_a_symlink_is_not_forgotten(tmp_path: Path) -> None:
    (write_files(tmp_path) / "golden").symlink_to("/etc")
    problem = problem_of(lambda: Manifest.of(tmp_path))
    assert (problem.code, problem.details["file"]) == ("not_a_regular_file", "golden")


def test_a_sparse_file_of_100_gigabytes_is_refused_by_its_size(tmp_path: Path) -> None:
    version = write_version(tmp_path, "1")
    os.truncate(version / WEIGHTS, 100 * 2**30)
    read: list[str] = []
    problem = problem_of(
        lambda: Manifest.read(version).verify(version, lambda name, _: read.append(name))
    )
    assert (problem.code, problem.details["size"]) == ("file_changed", 100 * 2**30)
    assert read == []


def test_a_name_with_a_newline_is_not_sealed(tmp_path: Path) -> None:
    (tmp_path / "a\nb.txt").write_text("")
    problem = problem_of(lambda: Manifest.of(tmp_path))
    assert problem.code == "not_a_regular_file"
    assert "\n" not in problem.message
