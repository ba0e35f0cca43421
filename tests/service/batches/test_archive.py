"""Zips: what is taken out of an honest one, and what a hostile one cannot do."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from service.batches.archive import Archive, ArchiveLimits
from service.errors import ApiError

LIMITS = ArchiveLimits(max_images=10, max_image_bytes=4 * 2**20, max_total_bytes=8 * 2**20)


def packed(*entries: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def opened(tmp_path: Path, data: bytes, limits: ArchiveLimits = LIMITS) -> Archive:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    return Archive(path, limits)


def refusal(tmp_path: Path, data: bytes, limits: ArchiveLimits = LIMITS) -> ApiError:
    with pytest.raises(ApiError) as caught:
        opened(tmp_path, data, limits)
    return caught.value


def entry_refusal(archive: Archive, index: int = 0) -> ApiError:
    with pytest.raises(ApiError) as caught:
        archive.read(index)
    return caught.value


def patched(data: bytes, **fields: int) -> bytes:
    """The archive with other numbers in its only entry, in both of its records."""
    places: dict[str, tuple[str, int, int]] = {
        "flags": ("<H", 6, 8), "method": ("<H", 8, 10), "size": ("<L", 22, 24),
    }  # fmt: skip
    changed = bytearray(data)
    directory = data.index(b"PK\x01\x02")
    for name, value in fields.items():
        kind, local, central = places[name]
        struct.pack_into(kind, changed, local, value)
        struct.pack_into(kind, changed, directory + central, value)
    return bytes(changed)


def test_images_are_read_by_their_place_in_any_order(tmp_path: Path) -> None:
    archive = opened(tmp_path, packed(("a.jpg", b"A"), ("b/c.png", b"C" * 1000)))
    assert list(archive.names) == ["a.jpg", "c.png"]
    assert [archive.read(i) for i in (1, 0, 1)] == [b"C" * 1000, b"A", b"C" * 1000]
    archive.close()


def test_a_comment_behind_the_archive_does_no_harm(tmp_path: Path) -> None:
    file = io.BytesIO(packed(("a.jpg", b"A")))
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"made by hand"
    assert opened(tmp_path, file.getvalue()).read(0) == b"A"


def test_folders_and_what_systems_add_are_left_out(tmp_path: Path) -> None:
    names = ("d/", "__MACOSX/d/._a.jpg", ".DS_Store", "d/.hidden/a.jpg", "d/Thumbs.db", "d/a.jpg")
    archive = opened(tmp_path, packed(*((name, b"x" * (name[-1] != "/")) for name in names)))
    assert list(archive.names) == ["a.jpg"]


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/x", "/etc/passwd", "C:\\x\\y.jpg", "a\x1bb.jpg"]
)
def test_names_are_only_shown_and_harmless(tmp_path: Path, name: str) -> None:
    archive = opened(tmp_path, packed((name, b"x")))
    (shown,) = archive.names
    assert not set(shown) & set("/\\\x1b")
    assert archive.read(0) == b"x"
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"PK\x03\x04", b"no zip at all", packed(("a.jpg", b"A" * 100))[:-10],
        b"PK\x05\x06" + b"\xff" * 18, b"PK\x05\x06" + b"\1" * 18,
    ],
)  # fmt: skip
def test_what_is_no_zip_is_told(tmp_path: Path, data: bytes) -> None:
    assert refusal(tmp_path, data).code in ("invalid_archive", "too_many_images")


def test_an_empty_zip_has_no_images(tmp_path: Path) -> None:
    assert refusal(tmp_path, packed()).code == "no_images"


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, packed(*((f"{i}.jpg", b"x") for i in range(11))))
    assert (error.status, error.code) == (413, "too_many_images")
    assert error.details == {"limit": 10, "value": 11}


def test_a_large_directory_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*_: Any) -> None:
        raise AssertionError("parsed")

    data = packed(*((f"{i}.jpg", b"x") for i in range(200)))
    longer = bytearray(packed(("a.jpg", b"x")))
    struct.pack_into("<L", longer, len(longer) - 10, 10**8)  # few entries, but a long directory
    monkeypatch.setattr(zipfile, "ZipFile", parse)
    for hostile in (data, bytes(longer)):
        assert refusal(tmp_path, hostile).code == "too_many_images"


def test_a_zip64_directory_is_refused(tmp_path: Path) -> None:
    data = packed(("a.jpg", b"x"))
    end = data.rindex(b"PK\x05\x06")
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    assert refusal(tmp_path, data[:end] + locator + data[end:]).code == "invalid_archive"


def test_what_unpacks_to_too_much_in_all_is_refused(tmp_path: Path) -> None:
    data = packed(*((f"{i}.bin", bytes(3 * 2**20)) for i in range(3)))
    error = refusal(tmp_path, data)
    assert (error.status, error.code) == (413, "archive_too_large")


def test_one_bomb_costs_the_others_nothing(tmp_path: Path) -> None:
    archive = opened(tmp_path, packed(("bomb.png", bytes(3 * 2**20)), ("a.jpg", b"A")))
    error = entry_refusal(archive)
    assert (error.status, error.code) == (422, "invalid_archive_entry")
    assert "times its size" in error.message
    assert archive.read(1) == b"A"


def test_a_large_entry_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    archive = opened(tmp_path, packed(("a.bmp", bytes(5 * 2**20)), how=zipfile.ZIP_STORED))
    assert (entry_refusal(archive).status, entry_refusal(archive).code) == (
        413,
        "image_file_too_large",
    )


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"flags": 1}, "encrypted"),
        ({"method": zipfile.ZIP_BZIP2}, "store or deflate"),
        ({"method": 99}, "store or deflate"),
        ({"size": 10}, ""),
        ({"size": 2000}, ""),
    ],
)
def test_an_entry_that_lies_or_is_locked_is_refused(
    tmp_path: Path, fields: dict[str, int], part: str
) -> None:
    archive = opened(tmp_path, patched(packed(("a.jpg", b"x" * 1000)), **fields))
    error = entry_refusal(archive)
    assert (error.status, error.code) == (422, "invalid_archive_entry")
    assert part in error.message


def test_damaged_bytes_are_told(tmp_path: Path) -> None:
    data = bytearray(packed(("a.jpg", bytes(range(256)) * 4)))
    data[60] ^= 0xFF
    assert entry_refusal(opened(tmp_path, bytes(data))).code == "invalid_archive_entry"
