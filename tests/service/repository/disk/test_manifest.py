"""A manifest lists the files of a version, and says when they are others."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from version_files import FILES, write_files, write_version

from service.repository.disk.manifest import FileEntry, Manifest
from service.repository.disk.regular_files import VersionProblem


def problem_of(folder: Path) -> VersionProblem:
    with pytest.raises(VersionProblem) as caught:
        Manifest.read(folder).verify(folder)
    return caught.value


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_files(tmp_path)
    manifest = Manifest.of(tmp_path)
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "manifest.json"])


def test_it_lists_size_and_hash_of_every_file_but_hidden_ones_and_itself(tmp_path: Path) -> None:
    files = {"golden/a.jpg": b"", ".DS_Store": b"x", ".cache/x": b"x", "manifest.json": b"x"}
    manifest = Manifest.of(write_files(tmp_path, files))
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert manifest.files == {"golden/a.jpg": FileEntry(0, empty)}


def test_an_untouched_version_is_verified_byte_by_byte(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "1")
    read: list[tuple[str, int]] = []
    manifest = Manifest.read(folder)
    manifest.verify(folder, lambda name, count: read.append((name, count)))
    assert read == [(name, len(content)) for name, content in sorted(FILES.items())]
    assert manifest.size_bytes == sum(count for _, count in read)


def test_the_same_files_have_the_same_digest_whenever_they_were_sealed(tmp_path: Path) -> None:
    one = Manifest.of(write_files(tmp_path / "1"))
    two = Manifest({name: one.files[name] for name in reversed(one.files)}, "2001-01-01")
    other = Manifest.of(write_files(tmp_path / "2", FILES | {"labels.txt": b"disc\n"}))
    assert one.digest == two.digest != other.digest


def test_a_version_without_a_manifest_is_incomplete(tmp_path: Path) -> None:
    assert problem_of(write_files(tmp_path)).code == "version_incomplete"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "1")
    (folder / "model_final.pth").unlink()
    problem = problem_of(folder)
    assert (problem.code, problem.details["file"]) == ("file_missing", "model_final.pth")
    assert problem.status == 422


@pytest.mark.parametrize("content", [b"WEIGHTS", b"weight", b"weights!", b""])
def test_a_changed_file_is_named(tmp_path: Path, content: bytes) -> None:
    folder = write_version(tmp_path, "1")
    (folder / "model_final.pth").write_bytes(content)
    problem = problem_of(folder)
    assert (problem.code, problem.details["file"]) == ("file_changed", "model_final.pth")


def test_sizes_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "1")
    (folder / "model_final.pth").write_bytes(b"longer than it was")
    read: list[str] = []
    with pytest.raises(VersionProblem):
        Manifest.read(folder).verify(folder, lambda name, _: read.append(name))
    assert read == []


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "1")

    def grow(name: str, _: int) -> None:
        with (folder / name).open("ab") as file:
            file.write(b"more")

    with pytest.raises(VersionProblem, match="changed while it was read"):
        Manifest.read(folder).verify(folder, grow)


@pytest.mark.parametrize(
    "name",
    [
        "other.pth",
        "b.safetensors",
        "c.PKL",
        "labels.txt",
        "stuff_labels.txt",
        "keypoints.json",
        "model.yaml",
        "golden.json",
    ],
)
def test_a_file_that_would_be_used_and_is_not_listed_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_version(tmp_path, "1")
    (folder / name).write_bytes(b"")
    problem = problem_of(folder)
    assert (problem.code, problem.details["file"]) == ("file_unlisted", name)


def test_a_note_beside_the_files_does_no_harm(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "1")
    (folder / "README.md").write_text("trained on Monday")
    Manifest.read(folder).verify(folder)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../b", "", "a//b", ".hidden", "a\\b", "a\n", "a/.b", "a\x00"]
)
def test_a_manifest_that_lists_a_path_out_of_the_folder_is_damaged(
    tmp_path: Path, name: str
) -> None:
    entry = {"size": 0, "sha256": "0" * 64}
    value = {"format": 1, "files": {name: entry}, "created_at": ""}
    (tmp_path / "manifest.json").write_text(json.dumps(value))
    problem = problem_of(tmp_path)
    assert problem.code == "version_incomplete"
    assert "damaged" in problem.message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"files": {}}',
        b'{"format": 2, "files": {}}',
        b'{"format": 1, "files": {"a": 1}}',
        b'{"format": 1, "files": {"a": {"size": -1, "sha256": "0"}}}',
        b'{"format": 1, "files": {"a": {"size": true, "sha256": "0"}}}',
        b'{"format": 1, "files": {"a": {"size": 1, "sha256": "xyz"}}}',
        b'{"format": 1, "files": {"a": {"size": 1}}}',
        b" " * (4 * 2**20 + 1),
    ],
)
def test_a_damaged_manifest_makes_no_version(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    problem = problem_of(tmp_path)
    assert problem.code == "version_incomplete"
    assert "damaged" in problem.message
    assert str(tmp_path) not in problem.message


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest.of(write_files(tmp_path))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        manifest.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
