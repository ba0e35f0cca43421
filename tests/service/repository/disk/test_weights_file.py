"""Files that a client names: what is taken, and what is refused without being read."""

import os
import socket
from pathlib import Path

import pytest

from service.errors import ApiError
from service.repository.disk.weights_file import FileStamp, check_file, check_unchanged

GIB = 1 << 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def weights(root: Path) -> Path:
    path = root / "model_final.pth"
    path.write_bytes(b"weights")
    return path


def code_of(path: Path, root: Path | None, **options: int) -> str:
    with pytest.raises(ApiError) as caught:
        check_file(path, root, **options)
    return caught.value.code


def test_a_file_under_the_root_is_taken(root: Path, weights: Path) -> None:
    found = weights.stat()
    assert check_file(weights, root) == FileStamp(found.st_dev, found.st_ino, 7, found.st_mtime_ns)


def test_a_symlink_that_stays_inside_is_followed(root: Path, weights: Path) -> None:
    link = root / "latest.pth"
    link.symlink_to(weights.name)
    assert check_file(link, root) == check_file(weights, root)


@pytest.mark.parametrize("how", ["absolute", "dots", "symlink", "folder"])
def test_a_file_outside_of_the_root_is_refused(tmp_path: Path, root: Path, how: str) -> None:
    outside = tmp_path / "other.pth"
    outside.write_bytes(b"weights")
    path = {
        "absolute": outside,
        "dots": root / ".." / "other.pth",
        "symlink": root / "link.pth",
        "folder": root / "up" / "other.pth",
    }[how]
    (root / "link.pth").symlink_to(outside)
    (root / "up").symlink_to(tmp_path)
    assert code_of(path, root) == "path_outside_root"


def test_an_operators_path_is_trusted_wherever_it_leads(tmp_path: Path, weights: Path) -> None:
    link = tmp_path / "link.pth"
    link.symlink_to(weights)
    assert check_file(link, None) == check_file(weights, None)


def test_a_pipe_is_refused_without_waiting_for_its_writer(root: Path) -> None:
    os.mkfifo(root / "model.pth")
    assert code_of(root / "model.pth", root) == "not_a_regular_file"


def test_a_folder_a_device_and_a_socket_are_refused(root: Path, monkeypatch) -> None:
    (root / "folder.pth").mkdir()
    assert code_of(root / "folder.pth", root) == "not_a_regular_file"
    assert code_of(Path("/dev/zero"), None) == "not_a_regular_file"
    monkeypatch.chdir(root)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s.pth")
        assert code_of(root / "s.pth", root) == "not_a_regular_file"


def test_a_file_that_is_not_there_and_a_loop_of_links_are_refused(root: Path) -> None:
    (root / "loop.pth").symlink_to("loop.pth")
    assert code_of(root / "none.pth", root) == "file_missing"
    for of in (root, None):
        assert code_of(root / "loop.pth", of) == "file_missing"


def test_an_empty_file_is_refused(root: Path) -> None:
    (root / "model.pth").touch()
    assert code_of(root / "model.pth", root) == "empty_file"


def test_a_file_of_holes_is_refused_whatever_it_claims_to_hold(root: Path) -> None:
    path = root / "huge.pth"
    with path.open("wb") as file:
        file.write(b"some data at its beginning")
        file.truncate(100 * GIB)
    assert code_of(path, root, free_memory=200 * GIB) == "sparse_file"


def test_a_file_with_a_hole_in_it_is_taken(root: Path) -> None:
    path = root / "model.pth"
    with path.open("wb") as file:
        file.write(b"x" * (1 << 20))
        file.seek(1 << 18, os.SEEK_CUR)
        file.write(b"x" * (1 << 20))
    assert check_file(path, root).size == (2 << 20) + (1 << 18)


def test_a_file_that_few_blocks_are_told_of_is_taken_when_it_has_no_holes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on file systems that compress, or of the network."""
    path = root / "model.pth"
    path.write_bytes(b"x" * (1 << 16))
    fstat = os.fstat

    def without_blocks(descriptor: int) -> os.stat_result:
        found = fstat(descriptor)
        values = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return os.stat_result(tuple(found), values | {"st_blocks": 0})

    monkeypatch.setattr(os, "fstat", without_blocks)
    assert check_file(path, root).size == 1 << 16


def test_a_file_larger_than_the_free_memory_is_refused(root: Path, weights: Path) -> None:
    assert code_of(weights, root, free_memory=6) == "not_enough_memory"
    assert check_file(weights, root, free_memory=7).size == 7


def test_a_file_that_stayed_as_it_was_passes(root: Path, weights: Path) -> None:
    check_unchanged(weights, check_file(weights, root))


@pytest.mark.parametrize("how", ["replaced", "written", "touched", "gone", "link"])
def test_a_file_that_changed_while_it_was_loaded_is_refused(
    root: Path, weights: Path, how: str
) -> None:
    stamp = check_file(weights, root)
    other = root / "other.pth"
    other.write_bytes(b"weights")
    os.utime(other, ns=(stamp.mtime_ns, stamp.mtime_ns))
    if how == "replaced":
        other.rename(weights)
    elif how == "written":
        weights.write_bytes(b"more weights")
        os.utime(weights, ns=(stamp.mtime_ns, stamp.mtime_ns))
    elif how == "touched":
        os.utime(weights, ns=(stamp.mtime_ns, stamp.mtime_ns + 1))
    else:
        weights.unlink()
        if how == "link":
            weights.symlink_to(other)
    with pytest.raises(ApiError) as caught:
        check_unchanged(weights, stamp)
    assert caught.value.code == "file_changed"
